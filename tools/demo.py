"""The whole pipeline on drawn garments, for a machine that can't reach the real data: `make demo`.

70,000 silhouettes are drawn and written as the four IDX files; then the project's last commit runs
on them, as a DVC experiment in a clone of its own under .dvc/tmp/demo. Nothing tracked changes, and
every result names its data.
"""

import shutil
import subprocess
from pathlib import Path

from fashion.drawn import SIZE, draw_garments
from fashion.errors import UserError, reported
from fashion.files import sha256
from fashion.idx import write_idx
from stages.params import DataFiles, read_params
from tools.dvc import dvc

WORKSPACE = Path(".dvc/tmp/demo")
DRAWINGS = WORKSPACE / ".dvc/tmp/drawings"
NAME = "drawn garments (not Fashion-MNIST)"
TRAINING, TEST = 60_000, 10_000  # images, as many as the real data has


def main(training: int = TRAINING, test: int = TEST) -> None:
    params = read_params()
    clone(WORKSPACE)
    print(f"Drawing {training + test:,} garments into {DRAWINGS} ...", flush=True)
    draw_data_set(params.data.files, DRAWINGS, training, test)
    overrides = describe_data_set(params.data.files, DRAWINGS)
    dvc(
        "exp", "run", "--name", "demo", *(f"--set-param={override}" for override in overrides),
        folder=WORKSPACE, FASHION_MNIST_DIR=str(DRAWINGS.resolve()),
    )  # fmt: skip
    dvc("metrics", "show", folder=WORKSPACE)
    print(
        f"\nThe numbers above are of {NAME}. Its pictures: {WORKSPACE / 'plots'}/*.png."
        " Nothing tracked has changed."
    )


def clone(target: Path) -> None:
    """A fresh clone of the last commit of the repository we are in."""
    shutil.rmtree(target, ignore_errors=True)
    result = subprocess.run(
        ["git", "clone", "--quiet", ".", target], capture_output=True, text=True, check=False
    )
    if result.returncode or not (target / "dvc.yaml").exists():
        raise UserError(
            f"the project's last commit can't be cloned to {target}."
            f" Is it committed? {result.stderr.strip()}"
        )


def draw_data_set(files: DataFiles, folder: Path, training: int, test: int) -> None:
    """Draw so many images for training and for the test, and write the four files into `folder`."""
    for split, count, seed in (("train", training, 0), ("test", test, 1)):
        images, labels = draw_garments(count, seed)
        write_idx(folder / getattr(files, f"{split}_images").name, images)
        write_idx(folder / getattr(files, f"{split}_labels").name, labels)


def describe_data_set(files: DataFiles, folder: Path) -> list[str]:
    """Return the params that describe the drawn files in `folder` in place of the real ones.

    They have the form NAME=VALUE.
    """
    overrides = [f"data.name='{NAME}'", f"data.image_shape=[{SIZE},{SIZE}]"]
    for key, file in files:
        path = folder / file.name
        overrides += [
            f"data.files.{key}.bytes={path.stat().st_size}",
            f"data.files.{key}.sha256='{sha256(path)}'",
        ]
    return overrides


if __name__ == "__main__":
    with reported("demo"):
        main()
