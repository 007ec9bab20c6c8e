"""Check params.yaml before any other stage runs.

DVC removes a stage's outputs before it runs the stage. If training found a wrong value, the
previous model and metrics would already be gone. `python -m stages.validate`, run by `dvc repro`.
"""

from fashion.core.files import atomic_write
from fashion.core.params import PARAMS, Params
from stages import StagePaths, run


def validate(_: Params, files: StagePaths) -> None:
    """Write a file that is always the same, so a changed param makes only its readers stale.

    The check itself is done by `run`, before every stage.
    """
    with atomic_write(files["params.valid"]) as tmp_path:
        tmp_path.write_text(f"{PARAMS} is valid\n", encoding="utf-8")


if __name__ == "__main__":
    run(validate)
