"""Run the whole pipeline on synthetic data, without the real data: `make demo`.

It writes 70,000 images of ten shapes as the four IDX files, then runs the last commit on them in a
clone in .dvc/tmp/demo. Tracked files stay as they are, and every result names its data.
"""

import shutil
from pathlib import Path

from fashion.core.dataset import DATASET
from fashion.core.errors import UserError
from fashion.data.idx import write_idx
from tools.arguments import expect_no_arguments
from tools.dataset import describe_dataset, write_dataset
from tools.dvc import DVC_YAML, dvc
from tools.experiments.runner import experiments_lock
from tools.git import local_clone
from tools.process import command_line
from tools.synthetic import SHAPES, synthetic_images

WORKSPACE = Path(".dvc/tmp/demo")
DATA = WORKSPACE / ".dvc/tmp/synthetic"
NAME = "synthetic shapes (not Fashion-MNIST)"
TRAINING, TEST = 60_000, 10_000  # as many images as the real data has


def main() -> None:
    expect_no_arguments("demo", __doc__)
    with experiments_lock():
        run_demo(TRAINING, TEST)


def run_demo(training: int, test: int) -> None:
    """Run the last commit on `training` and `test` synthetic images, and show its metrics."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    local_clone(WORKSPACE)
    if not (WORKSPACE / DVC_YAML).exists():  # DVC would run the project around the clone
        raise UserError("the last commit has no dvc.yaml. Commit the project first")
    print(f"Writing {training + test:,} synthetic images into {DATA} ...", flush=True)
    write_synthetic_data(DATA, training, test)
    write_dataset(describe_dataset(DATA.resolve(), NAME, list(SHAPES)), WORKSPACE / DATASET)
    dvc("repro", folder=WORKSPACE, DATA_DIR=str(DATA.resolve()))
    dvc("metrics", "show", folder=WORKSPACE)
    print(
        f"\nThese are the results of {NAME}. The plots are {WORKSPACE / 'plots'}/*.png."
        " No tracked file has changed."
    )


def write_synthetic_data(folder: Path, training: int, test: int) -> None:
    """Write a synthetic data set of `training` and `test` images into `folder`, as four files."""
    for split, count, seed in (("train", training, 0), ("t10k", test, 1)):
        images, labels = synthetic_images(count, seed)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels)


if __name__ == "__main__":
    with command_line("demo"):
        main()
