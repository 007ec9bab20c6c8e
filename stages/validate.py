"""Check params.yaml before any other stage runs.

DVC takes a stage's outputs away before it runs it: were a wrong value found by training, the model
and the metrics of before would be gone. `python -m stages.validate`, run by `dvc repro`.
"""

from fashion.core.files import atomic_write
from fashion.core.params import PARAMS, Params
from stages.pipeline import StagePaths, run


def validate(_: Params, files: StagePaths) -> None:
    # `run` has read and checked the params; the file is always the same, so that it makes no stage
    # outdated that does not read what has changed
    with atomic_write(files["params.valid"]) as tmp_path:
        tmp_path.write_text(f"{PARAMS} is valid\n", encoding="utf-8")


if __name__ == "__main__":
    run(validate)
