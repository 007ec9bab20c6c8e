"""Classify pictures or test images: `make predict ARGS="shirt.jpg"`.

The model is that of the workspace or, with `--rev`, of a commit or experiment; no stage runs. A
photograph is first made grey, small and of the data set's ground, and the output says so.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fashion.core.dataset import DATASET, Dataset, read_dataset, read_description
from fashion.core.errors import FileError, UserError
from fashion.core.strict_yaml import check_config
from fashion.preprocessing import preprocess_image, read_picture
from tools.arguments import parser_of, positive_int
from tools.dvc import cached_file, lock_at, output_hashes, resolve_revision
from tools.git import yaml_at
from tools.process import command_line

MODEL, PREPARED = Path("models/model.keras"), Path("data/prepared")
MAX_PLOTTED = 24  # images in the file of --plot
BAR = 30  # columns of a bar for 100 %


@dataclass
class Prediction:
    """What is known about an image, and its most probable classes with their probabilities."""

    image: str
    steps: list[str] = field(default_factory=list)  # of the preprocessing
    actual: str | None = None
    predictions: dict[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        notes = [*self.steps, *([f"is {self.actual}"] if self.actual else [])]
        return f"{self.image} ({', '.join(notes)})" if notes else self.image

    def __str__(self) -> str:
        lines = [
            f"  {name:12} {'█' * round(BAR * share):{BAR}} {share:6.1%}"
            for name, share in self.predictions.items()
        ]
        return "\n".join([self.title, *lines])


def main() -> int:
    arguments = parse_arguments()
    commit = None if arguments.rev is None else resolve_revision(arguments.rev)
    dataset = dataset_at(commit)
    file = model_file(commit)  # reports a missing model before the slow start of TensorFlow
    images, failures = read_pictures(arguments.images, dataset)
    images += [test_image(index, dataset) for index in arguments.test]
    if images:
        rows = classify(file, [pixels for pixels, _ in images], dataset)
        for (_, prediction), row in zip(images, rows, strict=True):
            best = np.argsort(-row)[: arguments.top]
            prediction.predictions = {dataset.class_names[i]: float(row[i]) for i in best}
            print(json.dumps(asdict(prediction)) if arguments.json else prediction)
        if arguments.plot:
            plot(arguments.plot, images[:MAX_PLOTTED])
    for message in failures:
        print(f"predict: {message}", file=sys.stderr)
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("predict", __doc__)
    add = parser.add_argument
    add("images", metavar="IMAGE", nargs="*", help="PNG or JPEG file")
    add("--test", metavar="INDEX", type=int, nargs="+", default=[], help="test images, from 0 on")
    add("--top", metavar="N", type=positive_int, default=3, help="classes to show (default: 3)")
    plotted = f"write a PNG of the first {MAX_PLOTTED} images with their probabilities"
    add("--plot", metavar="FILE", type=Path, help=plotted)
    add("--json", action="store_true", help="print a line of JSON per image, for programs")
    add("--rev", metavar="REV", help="use the model of this commit, branch, tag or experiment")
    arguments = parser.parse_args()
    if not arguments.images and not arguments.test:
        parser.error("name pictures, or a test image with --test INDEX")
    if arguments.plot and arguments.plot.suffix != ".png":
        parser.error(f"--plot writes a PNG: {arguments.plot} does not end with .png")
    return arguments


def dataset_at(commit: str | None) -> Dataset:
    """Return the content of dataset.yaml at a commit, or of the workspace without one."""
    if commit is None:
        return read_dataset()
    return check_config(yaml_at(commit, DATASET), f"{commit[:7]}:{DATASET}", Dataset)


def model_file(commit: str | None) -> Path:
    """Return the path of a commit's model in DVC's cache, or of the workspace's model.

    Raises UserError if it is missing.
    """
    if commit is None:
        if not MODEL.exists():
            raise UserError(f"{MODEL} is missing. `make` trains it")
        return MODEL
    digest = output_hashes(lock_at(commit)).get(str(MODEL), "none")
    if not (path := cached_file(digest)).exists():
        raise UserError(
            f"the model of {commit[:7]} is not in DVC's cache."
            f" `git checkout {commit[:7]} && dvc repro --pull` brings it or trains it again"
        )
    return path


def read_pictures(
    names: list[str], dataset: Dataset
) -> tuple[list[tuple[np.ndarray, Prediction]], list[str]]:
    """Return the uint8 pixels of pictures as the model sees them, and what was done to them.

    Also returns a message for each file that can't be read.
    """
    pictures, failures = [], []
    for name in names:
        try:
            with Path(name).open("rb") as file:
                picture = read_picture(file, name)
            pixels, steps = preprocess_image(picture, dataset)
            pictures.append((pixels, Prediction(name, steps)))
        except OSError as error:
            failures.append(f"{name}: {error.strerror or error}")
        except UserError as error:
            failures.append(str(error))
    return pictures, failures


def test_image(index: int, dataset: Dataset) -> tuple[np.ndarray, Prediction]:
    """Return an image of the prepared test split.

    Raises UserError if it does not exist, or if the model is for images of another size.
    """
    files = [PREPARED / f"test_{kind}.npy" for kind in ("images", "labels")]
    try:
        images, labels = (np.load(path, mmap_mode="r", allow_pickle=False) for path in files)
        class_names = read_description(PREPARED / "dataset.json").class_names
    except (OSError, ValueError, EOFError, FileError):
        raise UserError(
            f"{PREPARED}: missing or corrupted. `dvc repro prepare` rebuilds it"
        ) from None
    if not 0 <= index < len(labels):
        raise UserError(f"--test {index}: there are {len(labels):,} test images, counted from 0")
    if images.shape[1:] != dataset.image_shape:
        sizes = ["x".join(map(str, shape)) for shape in (images.shape[1:], dataset.image_shape)]
        raise UserError(
            f"--test {index}: the prepared images are {sizes[0]}, the model's {sizes[1]}"
        )
    return images[index], Prediction(f"test image {index}", actual=class_names[labels[index]])


def classify(file: Path, images: list[np.ndarray], dataset: Dataset) -> np.ndarray:
    """Return the model's probabilities (images, classes), float32.

    Raises UserError if the file is no model, or not one for this data set.
    """
    from fashion.model.training import predict

    model = load(file, file.stat().st_mtime_ns)
    shapes = (model.input_shape[1:], model.output_shape[1:])
    if shapes != (tuple(dataset.image_shape), (len(dataset.class_names),)):
        raise UserError(
            f"{MODEL} does not fit the images and classes in {DATASET}. `dvc repro` trains one that"
            " does"
        )
    return predict(model, np.stack(images))


@lru_cache(maxsize=2)  # the page of `make app` asks for the same model again and again
def load(file: Path, _changed: int) -> Any:
    """Return the Keras model in a file, maybe in DVC's cache. Raises UserError if it has none."""
    from fashion.model.backend import make_deterministic
    from fashion.model.networks import load_model

    make_deterministic(0)  # as evaluate does
    with TemporaryDirectory() as folder:
        link = Path(folder, MODEL.name)  # Keras needs .keras at the end, which the cache's lack
        link.symlink_to(file.resolve())
        try:
            return load_model(link)
        except FileError:
            raise UserError(
                f'{file}: not a complete Keras model. `make fsck ARGS="--all"` says what to do'
            ) from None


def plot(path: Path, images: list[tuple[np.ndarray, Prediction]]) -> None:
    """Write a PNG of images beside their probabilities."""
    from fashion.plots.figures import save_figure, top_classes

    rows = [
        # a file's name need not be UTF-8, but matplotlib draws nothing else
        (pixels, one.title.encode(errors="replace").decode(), one.predictions)
        for pixels, one in images
    ]
    save_figure(top_classes(rows), path)


if __name__ == "__main__":
    with command_line("predict"):
        sys.exit(main())
