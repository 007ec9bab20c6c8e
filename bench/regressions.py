"""Faults that `bench.gate` puts into the pipeline: by params, or by an edit of a line of code."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashion.core.params import PARAMS
from tools.overrides import write_params

SPLIT = '    chosen = {"train": ~in_validation, "validation": in_validation}\n'


@dataclass(frozen=True)
class Regression:
    """A fault. `old`, a text that occurs once in the file `path`, is replaced by `new`."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    old: str = ""
    new: str = ""

    def apply(self, folder: Path) -> None:
        """Put the fault into the project in `folder`. Raises ValueError if `old` is not there."""
        write_params(self.params, folder / PARAMS)
        if self.path:
            text = (folder / self.path).read_text(encoding="utf-8")
            if text.count(self.old) != 1:
                raise ValueError(f"{self.path} has {self.old!r} {text.count(self.old)} times")
            (folder / self.path).write_text(text.replace(self.old, self.new), encoding="utf-8")


def _prepare(name: str, before: str = "", after: str = "") -> Regression:
    """Return a fault in the prepare stage: code around the line that chooses the splits."""
    return Regression(name, {}, "stages/prepare.py", SPLIT, f"{before}{SPLIT}{after}")


def _brightest(classes: str, one_of: int, new_label: str) -> str:
    """Return code that gives the brightest images of some classes another label."""
    return (
        "    pieces = iterate_idx(train_images, (len(labels), *dataset.image_shape))\n"
        "    brightness = np.concatenate([piece.mean(axis=(1, 2)) for piece in pieces])\n"
        f"    chosen = np.flatnonzero(~in_validation & np.isin(labels, {classes}))\n"
        f"    chosen = chosen[np.argsort(brightness[chosen])[-len(chosen) // {one_of} :]]\n"
        f"    labels[chosen] = {new_label}\n"
    )


REGRESSIONS = [
    Regression("1 epoch", {"train.epochs": 1}),
    Regression("2 epochs", {"train.epochs": 2}),
    Regression("learning rate 0.01", {"train.learning_rate": 0.01}),
    Regression("batch size 2048", {"train.batch_size": 2048}),
    Regression("dropout 0.5", {"model.dropout": 0.5}),
    _prepare(
        "5 percent of labels wrong",
        "    wrong = np.flatnonzero(~in_validation)[::20]\n"
        "    labels[wrong] = (labels[wrong] + 1) % 10\n",
    ),
    _prepare(
        "a tenth of the training data",
        after='    chosen["train"] &= np.cumsum(chosen["train"]) % 10 == 1\n',
    ),
    Regression(
        "no shuffling",
        {},
        "fashion/model/training.py",
        "make_dataset(*training_data, batch_size=settings.batch_size, seed=seed)",
        "make_dataset(*training_data, batch_size=settings.batch_size)",
    ),
    Regression(
        "pixels not scaled",
        {},
        "fashion/model/networks.py",
        "    layers = [keras.layers.Rescaling(1 / 255,",
        "    layers = [keras.layers.Rescaling(1.0,",
    ),
    _prepare(
        "half of the shirts",
        after='    shirts = chosen["train"] & (labels == 6)\n'
        '    chosen["train"] &= ~(shirts & (np.cumsum(shirts) % 2 == 1))\n',
    ),
    _prepare(
        "a random fifth of the bags labelled as boots",
        "    bags = np.flatnonzero(~in_validation & (labels == 8))\n    labels[bags[::5]] = 9\n",
    ),
    _prepare("the brightest fifth of the bags labelled as shirts", _brightest("[8]", 5, "6")),
    _prepare(
        "the brightest tenth of pullovers and coats swapped",
        _brightest("[2, 4]", 10, "6 - labels[chosen]"),
    ),
]
