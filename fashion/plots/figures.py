"""Draw the plots of the pipeline and of `predict`, as matplotlib Figures."""

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

matplotlib.rcdefaults()  # a user's matplotlibrc has no effect
matplotlib.rcParams["text.parse_math"] = False  # a class may be named "$5 to $10"
# The first of these that is installed draws the letters that matplotlib's own font lacks.
CJK_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Hiragino Sans")
FONTS = ["DejaVu Sans", *[name for name in CJK_FONTS if name in get_font_names()][:1]]
matplotlib.rcParams["font.family"] = FONTS

TRAINING, VALIDATION = "#1f77b4", "#d95f02"
RIGHT, WRONG = "#1b7837", "#b2182b"
GREY = "#555555"
MAX_NAME = 24  # characters of a class name on an axis
MAX_VERDICT = 27  # characters per line above an image of `predictions`


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG with 150 dots per inch, and without matplotlib's version, to keep bytes equal."""
    with atomic_write(path) as tmp_path:
        figure.savefig(tmp_path, dpi=150, metadata={"Software": None})


def learning_curves(history: pd.DataFrame, quantity: str, label: str, title: str) -> Figure:
    """Draw "loss" or "accuracy" on training and validation images by epoch.

    The epoch of the lowest validation loss is marked. A training loss that still falls after it
    means overfitting.
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
    """Add the training and the validation curve of `quantity`, with at most 40 markers each."""
    curve = {"data": history, "markersize": markersize, "markevery": -(-len(history) // 40)}
    axes.plot("epoch", quantity, "o-", color=TRAINING, label="training", **curve)
    axes.plot("epoch", f"val_{quantity}", "s--", color=VALIDATION, label="validation", **curve)


def confusion_matrix(predictions: pd.DataFrame, class_names: list[str], title: str) -> Figure:
    """Draw how many images of each class (row) were predicted as each class (column).

    A cell's shade is its share of the row.
    """
    pairs = pd.crosstab(predictions["actual"], predictions["predicted"])
    counts = pairs.reindex(index=class_names, columns=class_names, fill_value=0).to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = max(5, 0.4 * len(class_names))  # width and height of the matrix
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
    """Return each letter of the names, once, that no font of the plots has."""
    fonts = [FT2Font(findfont(name)) for name in FONTS]
    letters = dict.fromkeys(letter for name in names for letter in name if not letter.isspace())
    return "".join(x for x in letters if not any(font.get_char_index(ord(x)) for font in fonts))


def samples(
    images: np.ndarray, labels: np.ndarray, class_names: list[str], title: str, each: int = 12
) -> Figure:
    """Draw a row for each class with its first `each` images, (items, height, width) uint8."""
    height, width = images.shape[1:]
    tiles = np.full((len(class_names), each, height, width), np.nan)
    for label, row in enumerate(tiles):
        examples = images[np.flatnonzero(labels == label)[:each]]
        row[: len(examples)] = examples
    figure = Figure(figsize=(8, 0.62 * len(class_names) + 0.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    _show(axes, _mosaic(tiles, gaps=(2, 2)))
    places = (height + 2) * np.arange(len(class_names)) + (height - 1) / 2
    axes.set_yticks(places, _shortened(class_names), fontsize=10)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    return figure


def predictions(images: np.ndarray, table: pd.DataFrame, title: str) -> Figure:
    """Draw images below their predictions, green with a tick if right, red with a cross if wrong.

    `images` is (items, height, width) uint8. `table` has a row for each, with `actual`, `predicted`
    and `confidence`.
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
    side = max(height, width)  # of a square, so that the words have room whatever the shape
    left = (side - width) // 2
    tiles = np.full((rows * columns, side, side), np.nan)
    tiles[: len(table), :height, left : left + width] = images[: len(table)]
    gaps = -(-10 * side // 28), round(0.08 * side)  # room for four lines, and between them
    _show(axes, _mosaic(tiles.reshape(rows, columns, side, side), gaps))
    for i, row in enumerate(table.itertuples()):
        right, (down, across) = row.actual == row.predicted, divmod(i, columns)
        verdict = f"✓ {row.predicted}" if right else f"✗ {row.predicted} (is {row.actual})"
        lines = textwrap.fill(verdict, MAX_VERDICT, max_lines=3, placeholder="…")
        axes.annotate(
            f"{lines}\n{row.confidence:.1%} sure",
            (across * (side + gaps[1]) + (side - 1) / 2, down * (side + gaps[0]) - 0.5),
            (0, 4), textcoords="offset points", ha="center", va="bottom",
            fontsize=8 if len(verdict) <= MAX_VERDICT else 7,
            color=RIGHT if right else WRONG,
        )  # fmt: skip
    return figure


def top_classes(shown: list[tuple[np.ndarray, str, dict[str, float]]]) -> Figure:
    """Draw each image in a row, beside the probabilities of its likeliest classes.

    An item of `shown` has pixels (height, width) uint8, a title, and probabilities in [0, 1] by
    class, the likeliest first.
    """
    inches = np.clip(0.19 * max(len(one) for *_, one in shown), 1.9, 15)  # of a row
    figure = Figure(figsize=(8, inches * len(shown)), layout="constrained")
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


def _mosaic(tiles: np.ndarray, gaps: tuple[int, int]) -> np.ndarray:
    """Lay out images (rows, columns, height, width) in one, with gaps of pixels down and across.

    Gaps and missing images are NaN, which is not drawn. Drawing one image is many times faster than
    drawing one for each cell.
    """
    down, across = gaps
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, down), (0, across)), constant_values=np.nan)
    rows, columns, height, width = padded.shape
    whole = padded.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return whole[: rows * height - down, : columns * width - across]


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
