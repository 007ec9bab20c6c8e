"""Give stages their files, as dvc.yaml declares them, and show errors to the user.

Python runs this module before a stage's own imports, so before NumPy reads the environment.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fashion.core.environment import check_environment, set_environment
from fashion.core.errors import FileError, UserError, exit_on_user_error
from fashion.core.params import Params, read_params
from fashion.core.strict_yaml import read_yaml

if TYPE_CHECKING:
    import numpy as np

arithmetic = "portable"
with suppress(UserError):  # which `run` shows
    arithmetic = read_params().arithmetic
set_environment(arithmetic)

DVC_YAML = Path("dvc.yaml")


class StagePaths:
    """The paths of a stage by file name: `files["model.keras"]` is wherever dvc.yaml puts it.

    So a stage's code repeats no path and can't name a file that the stage does not declare. Raises
    UserError if the stage declares two paths with the same file name.
    """

    def __init__(self, stage: str):
        try:
            definition = read_yaml(DVC_YAML)["stages"][stage]
        except (KeyError, TypeError):
            raise UserError(f"{DVC_YAML} has no stage {stage}, which this command runs") from None
        groups = [definition.get(kind, []) for kind in ("deps", "outs", "metrics", "plots")]
        self._stage, self._paths = stage, {}
        for entry in (entry for group in groups for entry in group):
            path = Path(entry if isinstance(entry, str) else next(iter(entry)))
            other = self._paths.setdefault(path.name, path)
            if other != path:
                raise UserError(
                    f"{DVC_YAML}: stage {stage} declares {other} and {path}."
                    " Give one of them another file name"
                )

    def __getitem__(self, name: str) -> Path:
        if name not in self._paths:
            raise UserError(f"{DVC_YAML} declares no {name} for stage {self._stage}")
        return self._paths[name]


def load_split(files: StagePaths, split: str) -> "tuple[np.ndarray, np.ndarray]":
    """Return images (items, height, width) and labels (items,) of a split, uint8, memory-mapped.

    `split` is "train", "validation" or "test". Raises FileError if it is missing or corrupted.
    """
    import numpy as np  # after `set_environment`

    paths = [files["prepared"] / f"{split}_{part}.npy" for part in ("images", "labels")]
    try:
        images, labels = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths)
    except (ValueError, EOFError, FileNotFoundError) as error:
        raise FileError(f"{files['prepared']}: missing or corrupted ({error})") from None
    return images, labels


def run(stage: Callable[[Params, StagePaths], None]) -> None:
    """Run a stage. An error that the user can correct ends it with one message and status 1."""
    with exit_on_user_error(stage.__name__):
        check_environment()
        try:
            stage(read_params(), StagePaths(stage.__name__))
        except FileError as error:
            raise UserError(f"{error}. `dvc repro` rebuilds it") from None
