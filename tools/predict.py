"""Name the garment in pictures, or in a test image: `make predict ARGS="shirt.jpg"`.

It uses the model in the workspace, or with `--rev` that of a commit or experiment, and starts no
stage. Photographs are not what the model knows: each is made grey, small and light on dark first,
and it says what was done.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from fashion.core.dataset import DATASET, Dataset, read_dataset
from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import check_config
from fashion.preprocessing import preprocess_image, read_picture
from tools.experiments.config import EXPERIMENTS
from tools.git import is_experiment, resolve_revision, yaml_at

MODEL = Path("models/model.keras")
TEST_IMAGES, TEST_LABELS = (
    Path("data/prepared/test_images.npy"),
    Path("data/prepared/test_labels.npy"),
)
CHUNK_SIZE = 1000  # pictures in memory at a time
MAX_PLOTTED = 24  # pictures in the file of --plot
MAX_STDIN_BYTES = 200_000_000  # bytes read from standard input


@dataclass
class InputImage:
    """A picture as the network sees it, uint8 (height, width), and what is known of it."""

    name: str
    pixels: np.ndarray
    steps: list[str]
    actual: str | None = None

    @property
    def title(self) -> str:
        notes = [*self.steps, *([f"is {self.actual}"] if self.actual else [])]
        return f"{self.name} ({', '.join(notes)})" if notes else self.name


def main() -> int:
    arguments = parse_arguments()
    dataset = dataset_of(arguments.rev) if arguments.rev else read_dataset()
    # looked at first, as TensorFlow takes seconds to start
    if not arguments.rev and not MODEL.exists():
        raise UserError(f"{MODEL}: not here yet. `make` trains it")
    tests = test_images(arguments.test, dataset.class_names) if arguments.test else []
    model = load(arguments.rev)
    class_names, shown, failed = dataset.class_names, [], []
    if model.output_shape[-1] != len(class_names) or model.input_shape[1:] != tuple(
        dataset.image_shape
    ):
        raise UserError(f"{MODEL} does not belong to {PARAMS}: `dvc repro` trains one that does")
    from fashion.model.training import predict

    pictures = read_all(arguments.images, dataset.image_shape, failed)
    images = chain(pictures, tests)
    while several := list(islice(images, CHUNK_SIZE)):
        for image, probabilities in zip(
            several, predict(model, np.stack([one.pixels for one in several])), strict=True
        ):
            best = {
                class_names[i]: float(probabilities[i])
                for i in np.argsort(-probabilities)[: arguments.top]
            }
            show_json(image, best) if arguments.json else show(image, best)
            if len(shown) < MAX_PLOTTED:
                shown.append((image.pixels, image.title, best))
    if arguments.plot and shown:
        from fashion.figures import save_figure, top_classes

        save_figure(top_classes(shown), arguments.plot)
    for message in failed:
        print(f"predict: {message}", file=sys.stderr)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="predict", description=__doc__.split("\n")[0])
    parser.add_argument(
        "images", metavar="IMAGE", nargs="*", help="PNG or JPEG file; - for standard input"
    )
    parser.add_argument(
        "--test",
        metavar="INDEX",
        type=int,
        nargs="+",
        default=[],
        help="test images, counted from 0",
    )
    parser.add_argument("--top", metavar="N", type=int, default=3, help="how many classes to show")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        help=f"draw the first {MAX_PLOTTED} pictures beside their chart, as PNG",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a line, for programs")
    parser.add_argument(
        "--rev", metavar="REV", help="model of this commit, branch, tag or experiment"
    )
    arguments = parser.parse_args()
    if not arguments.images and not arguments.test:
        parser.error("name pictures, or a test image with --test INDEX")
    if arguments.top < 1:
        parser.error("--top must be at least 1")
    return arguments


def dataset_of(revision: str) -> Dataset:
    """Return what the data of a revision was."""
    values = yaml_at(resolve_revision(revision), DATASET)
    return check_config(values, f"{revision}:{DATASET}", Dataset)


def load(revision: str | None):
    """The model in the workspace or of a revision, whose file DVC has in its cache."""
    content = model_of(revision) if revision else None  # first: TensorFlow takes seconds to start
    from fashion.model.backend import make_deterministic
    from fashion.model.networks import load_model

    make_deterministic(0)  # as evaluate does
    if content is None:
        return load_model(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, MODEL.name)
        file.write_bytes(content)
        return load_model(file)


def model_of(revision: str) -> bytes:
    """Return the file of a revision's model. Raises UserError where DVC does not have it."""
    from dvc.api import read
    from dvc.exceptions import DvcException

    try:
        return read(str(MODEL), repo=".", rev=resolve_revision(revision), mode="rb")
    except (DvcException, FileNotFoundError):
        raise UserError(
            f"the model of {revision} is not in DVC's cache. {how_to_get(revision)}"
        ) from None


def how_to_get(revision: str) -> str:
    """Say how to get the model of a revision that is here, but whose model is not."""
    commit = resolve_revision(revision)
    again = f"`git checkout {commit[:7]} && dvc repro` makes"
    if is_experiment(commit):
        return f"`make experiments` makes those of {EXPERIMENTS} again, {again} any"
    return f"`dvc fetch --all-commits` brings it from a remote, {again} it again"


def read_all(
    names: list[str], image_shape: tuple[int, int], failed: list[str]
) -> Iterator[InputImage]:
    """The pictures one by one.

    What can't be read is left out, with a message for each added to `failed`.
    """
    for name in names:
        try:
            with standard_input() if name == "-" else Path(name).open("rb") as file:
                yield InputImage(name, *preprocess_image(read_picture(file, name), image_shape))
        except OSError as error:
            failed.append(f"{name}: {error.strerror or error}")
        except UserError as error:
            failed.append(str(error))


def standard_input() -> io.BytesIO:
    return io.BytesIO(sys.stdin.buffer.read(MAX_STDIN_BYTES))


def test_images(indices: list[int], class_names: list[str]) -> Iterator[InputImage]:
    """Return test images one by one. Raises UserError at once where there is no such."""
    try:
        images, labels = (
            np.load(path, mmap_mode="r", allow_pickle=False) for path in (TEST_IMAGES, TEST_LABELS)
        )
    except (OSError, ValueError, EOFError):
        raise UserError(
            f"{TEST_IMAGES.parent}: not here yet, or damaged. `dvc repro prepare` makes it"
        ) from None
    for index in indices:
        if not 0 <= index < len(labels):
            raise UserError(
                f"--test {index}: there are {len(labels):,} test images, counted from 0"
            )
    return (
        InputImage(f"test image {index}", images[index], [], class_names[labels[index]])
        for index in indices
    )


def show(image: InputImage, best: dict[str, float]) -> None:
    """A small bar chart; the widest bar that a terminal of 60 columns has room for is 100 %."""
    chart = Table.grid(padding=(0, 1))
    chart.add_column(min_width=14)
    chart.add_column(width=30)
    chart.add_column(justify="right")
    for name, probability in best.items():
        chart.add_row(f"  {name}", Bar(1, 0, probability), f"{probability:.1%}")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(image.title)
    console.print(chart)


def show_json(image: InputImage, best: dict[str, float]) -> None:
    content = {"image": image.name, "steps": image.steps}
    if image.actual:
        content["actual"] = image.actual
    predictions = [
        {"class": name, "probability": round(probability, 6)} for name, probability in best.items()
    ]
    print(json.dumps(content | {"predictions": predictions}), flush=True)


if __name__ == "__main__":
    with exit_on_user_error("predict"):
        sys.exit(main())
