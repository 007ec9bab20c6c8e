"""The whole pipeline on drawn garments, for a machine that can't reach the real data: `make demo`.

70,000 silhouettes are drawn and written as the four IDX files; then the project's last commit runs
on them, as a DVC experiment in a clone of its own under .dvc/tmp/demo. Nothing tracked changes, and
every result names its data.
"""

import shutil
from pathlib import Path

from fashion.core.dataset import DATASET, DataFiles, read_dataset
from fashion.core.errors import UserError, exit_on_user_error
from fashion.data.idx import write_idx
from fashion.synthetic import draw_garments
from tools.arguments import expect_no_arguments
from tools.dataset import describe_dataset, write_dataset
from tools.dvc import dvc
from tools.git import local_clone

WORKSPACE = Path(".dvc/tmp/demo")
DRAWINGS = WORKSPACE / ".dvc/tmp/drawings"
NAME = "drawn garments (not Fashion-MNIST)"
TRAINING, TEST = 60_000, 10_000  # images, as many as the real data has


def main(training: int = TRAINING, test: int = TEST) -> None:
    dataset = read_dataset()
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    local_clone(WORKSPACE)
    if not (WORKSPACE / "dvc.yaml").exists():  # DVC would take the project around the clone for it
        raise UserError("the last commit has no dvc.yaml. Commit the project first")
    print(f"Drawing {training + test:,} garments into {DRAWINGS} ...", flush=True)
    draw_data_set(dataset.files, DRAWINGS, training, test)
    folder = DRAWINGS.resolve()
    write_dataset(describe_dataset(folder, NAME, dataset.class_names), WORKSPACE / DATASET)
    dvc("exp", "run", "--name", "demo", folder=WORKSPACE, FASHION_MNIST_DIR=str(folder))
    dvc("metrics", "show", folder=WORKSPACE)
    print(
        f"\nThe numbers above are of {NAME}. Its pictures: {WORKSPACE / 'plots'}/*.png."
        " Nothing tracked has changed."
    )


def draw_data_set(files: DataFiles, folder: Path, training: int, test: int) -> None:
    """Draw so many images for training and for the test, and write the four files into `folder`."""
    for split, count, seed in (("train", training, 0), ("test", test, 1)):
        images, labels = draw_garments(count, seed)
        write_idx(folder / getattr(files, f"{split}_images").name, images)
        write_idx(folder / getattr(files, f"{split}_labels").name, labels)


if __name__ == "__main__":
    with exit_on_user_error("demo"):
        expect_no_arguments("demo", __doc__)
        main()
