"""What all stages share.

That is their files as dvc.yaml declares them, and errors that speak to the user.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.params import Params, read_params
from fashion.core.strict_yaml import read_yaml

DVC_YAML = Path("dvc.yaml")


class StagePaths:
    """Paths by file name, for one stage: `files["model.keras"]` is wherever dvc.yaml puts it.

    A path stands in dvc.yaml only, and a stage can't name a file that it does not declare.
    """

    def __init__(self, stage: str):
        definition = read_yaml(DVC_YAML)["stages"][stage]
        groups = [definition.get(kind, []) for kind in ("deps", "outs", "metrics", "plots")]
        groups.append(definition.get("meta", {}).get("records", []))
        entries = [entry for group in groups for entry in group]
        paths = [Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]
        self._paths = {path.name: path for path in paths}
        self._stage = stage

    def __getitem__(self, name: str) -> Path:
        if name not in self._paths:
            raise KeyError(f"{DVC_YAML} declares no {name} for stage {self._stage}")
        return self._paths[name]


def load_split(files: StagePaths, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (items, height, width) and labels (items,) of a split.

    The split is "train", "validation" or "test"; both arrays are uint8, memory-mapped.
    """
    if not files["prepared"].is_dir():
        raise UserError(f"{files['prepared']}: not here yet. `dvc repro` makes it")
    paths = [files["prepared"] / f"{split}_{part}.npy" for part in ("images", "labels")]
    try:
        images, labels = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths)
    except (ValueError, EOFError, FileNotFoundError) as error:
        raise UserError(
            f"{files['prepared']}: missing or damaged ({error}). `dvc repro` makes it again"
        ) from None
    return images, labels


def run(stage: Callable[[Params, StagePaths], None]) -> None:
    """Run a stage.

    What the user can mend ends in one message and exit status 1, not in a traceback.
    """
    with exit_on_user_error(stage.__name__):
        stage(read_params(), StagePaths(stage.__name__))
