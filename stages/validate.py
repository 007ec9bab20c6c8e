"""Check params.yaml before any other stage runs.

DVC removes a stage's outputs before it runs it: if training found a wrong value, the previous model
and metrics would already be gone. `python -m stages.validate`, run by `dvc repro`.
"""

from fashion.core.files import atomic_write
from fashion.core.params import PARAMS, Params
from stages import StagePaths, run


def validate(_: Params, files: StagePaths) -> None:
    # `run` has checked the params; the file is always the same, so that a changed param makes only
    # the stages stale that read it
    with atomic_write(files["params.valid"]) as tmp_path:
        tmp_path.write_text(f"{PARAMS} is valid\n", encoding="utf-8")


if __name__ == "__main__":
    run(validate)
