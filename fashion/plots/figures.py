"""The pictures of the pipeline and of `predict`, as matplotlib Figures."""

import textwrap
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font_names
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator

from fashion.core.files import atomic_write

matplotlib.rcdefaults()  # the same picture whatever matplotlibrc a user has
matplotlib.rcParams["text.parse_math"] = False  # a class may be named "$5 to $10"
# For letters that matplotlib's own font lacks, the first of these that is installed.
CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Hiragino Sans")
FONTS = ["DejaVu Sans", *[name for name in CJK_FONTS if name in get_font_names()][:1]]
matplotlib.rcParams["font.family"] = FONTS

TRAINING, VALIDATION = "#1f77b4", "#d95f02"
RIGHT, WRONG = "#1b7837", "#b2182b"
GREY = "#555555"
MAX_NAME = 24  # characters of a class on an axis
MAX_VERDICT = 27  # characters that fit above an image of predictions


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG of 150 dots per inch, without matplotlib's version, which would change bytes."""
    with atomic_write(path) as tmp_path:
        figure.savefig(tmp_path, dpi=150, metadata={"Software": None})


def learning_curves(history: pd.DataFrame, quantity: str, label: str, title: str) -> Figure:
    """Draw "loss" or "accuracy" on training and validation images over a history's epochs.

    The epoch of the lowest validation loss is marked: a training loss that still falls after it is
    overfitting.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    best = history.loc[history["val_loss"].idxmin(), "epoch"]
    offset, side = (-4, "right") if best > history["epoch"].median() else (4, "left")
    axes.axvline(best, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        f"lowest validation loss: epoch {best}", (best, 0.985), (offset, 0),
        xycoords=("data", "axes fraction"), textcoords="offset points",
        ha=side, va="top", fontsize=9, color=GREY,
    )  # fmt: skip
    plot_history(axes, history, quantity, markersize=4)
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def plot_history(axes: Axes, history: pd.DataFrame, quantity: str, markersize: float) -> None:
    """Add the training and the validation curve of `quantity`, each with at most 40 markers."""
    curve = {"data": history, "markersize": markersize, "markevery": -(-len(history) // 40)}
    axes.plot("epoch", quantity, "o-", color=TRAINING, label="training", **curve)
    axes.plot("epoch", f"val_{quantity}", "s--", color=VALIDATION, label="validation", **curve)


def confusion_matrix(predictions: pd.DataFrame, class_names: list[str], title: str) -> Figure:
    """Draw how many images of each class (row) were predicted as each class (column).

    The shade is the share of the row.
    """
    pairs = pd.crosstab(predictions["actual"], predictions["predicted"])
    counts = pairs.reindex(index=class_names, columns=class_names, fill_value=0).to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = max(5, 0.4 * len(class_names))  # of the matrix, each way
    figure = Figure(figsize=(inches + 2.5, inches + 1.8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            centred = {"ha": "center", "va": "center", "fontsize": 9}
            axes.text(column, row, counts[row, column], color=colour, **centred)
    places = range(len(class_names))
    names = _shortened(class_names)
    axes.set_xticks(places, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.set(title=title, xlabel="predicted", ylabel="actual")
    axes.spines[:].set_visible(False)
    return figure


def _shortened(names: list[str]) -> list[str]:
    return [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…" for name in names]


def missing_letters(names: list[str]) -> str:
    """Return the letters of the names that no font of the pictures has, each once."""
    fonts = [FT2Font(findfont(name)) for name in FONTS]
    letters = dict.fromkeys(letter for name in names for letter in name if not letter.isspace())
    return "".join(x for x in letters if not any(font.get_char_index(ord(x)) for font in fonts))


def samples(
    images: np.ndarray, labels: np.ndarray, class_names: list[str], title: str, each: int = 12
) -> Figure:
    """Draw the first `each` images, (items, height, width) uint8, of every class, a row a class."""
    height, width = images.shape[1:]
    tiles = np.full((len(class_names), each, height, width), np.nan)
    for label, row in enumerate(tiles):
        examples = images[np.flatnonzero(labels == label)[:each]]
        row[: len(examples)] = examples
    figure = Figure(figsize=(8, 0.62 * len(class_names) + 0.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    _show(axes, _mosaic(tiles, gap=2))
    places = (height + 2) * np.arange(len(class_names)) + (height - 1) / 2
    axes.set_yticks(places, _shortened(class_names), fontsize=10)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    return figure


def predictions(images: np.ndarray, table: pd.DataFrame, title: str) -> Figure:
    """Draw images below their predictions, green with a tick if right, red with a cross if wrong.

    `images` is (items, height, width) uint8; `table` has their `actual`, `predicted` and
    `confidence`, row by row.
    """
    columns = 6
    rows = max(1, -(-len(table) // columns))
    figure = Figure(figsize=(9.9, 2.05 * rows + 0.85))
    figure.suptitle(title)
    axes = figure.add_axes((0.01, 0, 0.98, 1 - 0.85 / (2.05 * rows + 0.85)), anchor="N")
    axes.axis("off")
    if table.empty:
        figure.text(0.5, 0.4, "There are none.", ha="center", fontsize=10)
        return figure
    height, width = images.shape[1:]
    tiles = np.full((rows * columns, height, width), np.nan)
    tiles[: len(table)] = images[: len(table)]
    gaps = round(0.34 * height), round(0.08 * width)  # room for the words, and between them
    _show(axes, _mosaic(tiles.reshape(rows, columns, height, width), *gaps))
    for i, row in enumerate(table.itertuples()):
        right, (down, across) = row.actual == row.predicted, divmod(i, columns)
        verdict = f"✓ {row.predicted}" if right else f"✗ {row.predicted} (is {row.actual})"
        axes.annotate(
            f"{textwrap.fill(verdict, MAX_VERDICT)}\n{row.confidence:.1%} sure",
            (across * (width + gaps[1]) + (width - 1) / 2, down * (height + gaps[0]) - 0.5),
            (0, 4), textcoords="offset points", ha="center", va="bottom",
            fontsize=8 if len(verdict) <= MAX_VERDICT else 7,
            color=RIGHT if right else WRONG,
        )  # fmt: skip
    return figure


def top_classes(shown: list[tuple[np.ndarray, str, dict[str, float]]]) -> Figure:
    """Draw images, a row each, beside the probabilities of their likeliest classes.

    Each is pixels (height, width) uint8, a title, and probabilities in [0, 1] by class, the
    likeliest first.
    """
    figure = Figure(figsize=(8, 1.9 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2, squeeze=False, gridspec_kw={"width_ratios": [1, 3]})
    for (left, right), (pixels, title, probabilities) in zip(grid, shown, strict=True):
        left.axis("off")
        _show(left, pixels)
        names, values = list(probabilities), list(probabilities.values())
        bars = right.barh(names, values, color=TRAINING, height=0.6)
        right.bar_label(bars, [f"{value:.1%}" for value in values], padding=4, fontsize=9)
        right.set(xlim=(0, 1.15), xticks=[])
        right.set_title(textwrap.fill(title, 80), loc="left", fontsize=9)
        right.invert_yaxis()
        right.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def _mosaic(tiles: np.ndarray, gap: int, gap_between_columns: int | None = None) -> np.ndarray:
    """Lay out images (rows, columns, height, width) in one, with gaps of so many pixels.

    Gaps are NaN, as are missing images, and not drawn. One image is drawn many times faster than
    one for each cell.
    """
    across = gap if gap_between_columns is None else gap_between_columns
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, across)), constant_values=np.nan)
    rows, columns, height, width = padded.shape
    whole = padded.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return whole[: rows * height - gap, : columns * width - across]


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
