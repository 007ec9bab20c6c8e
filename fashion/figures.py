"""The pictures. Every function returns a matplotlib Figure; equal arguments give equal pixels."""

import textwrap
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fashion.core.files import atomic_write

matplotlib.rcdefaults()  # the same picture whatever matplotlibrc a user has
matplotlib.rcParams["text.parse_math"] = False  # a class may be named "$5 to $10"

TRAINING, VALIDATION = "#1f77b4", "#d95f02"
RIGHT, WRONG = "#1b7837", "#b2182b"
GREY = "#555555"
MAX_VERDICT = 27  # characters that fit above an image of predictions


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG of 150 dots per inch.

    The version and the time are left out, which would make its bytes differ.
    """
    with atomic_write(path) as tmp_path:
        figure.savefig(tmp_path, dpi=150, metadata={"Software": None})


def learning_curves(history: pd.DataFrame, quantity: str, label: str, title: str) -> Figure:
    """Draw `quantity` on training and validation images over the epochs of a history.csv.

    `quantity` is "loss" or "accuracy". The epoch of the lowest validation loss is marked: what
    comes after it, with training loss still falling, is overfitting.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    best = history.loc[history["val_loss"].idxmin(), "epoch"]
    axes.axvline(best, color=GREY, linewidth=1, linestyle=":")
    axes.annotate(
        f"lowest validation loss: epoch {best}",
        (best, 0.985), (-4 if best > history["epoch"].median() else 4, 0),
        xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="right" if best > history["epoch"].median() else "left", va="top",
        fontsize=9, color=GREY,
    )  # fmt: skip
    _plot_history(axes, history, quantity, markersize=4)
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _plot_history(axes: Axes, history: pd.DataFrame, quantity: str, markersize: float) -> None:
    """Add the curves of `quantity` on training and validation images.

    Each has at most 40 markers, which would run together.
    """
    markers = {"markersize": markersize, "markevery": -(-len(history) // 40)}
    axes.plot("epoch", quantity, "o-", data=history, color=TRAINING, label="training", **markers)
    axes.plot(
        "epoch",
        f"val_{quantity}",
        "s--",
        data=history,
        color=VALIDATION,
        label="validation",
        **markers,
    )


def compare_losses(histories: dict[str, pd.DataFrame], title: str) -> Figure:
    """Training and validation loss of several runs, a panel each: the shaded gap is overfitting.

    `histories` has the content of each run's history.csv by the name of the run. Panels share the
    axis of the loss, and that of epochs too, unless the shortest run would be left less than a
    quarter of it.
    """
    columns = 2 if len(histories) == 4 else min(len(histories), 3)
    rows = -(-len(histories) // columns)
    lengths = [len(history) for history in histories.values()]
    shared = 4 * min(lengths) >= max(lengths)
    figure = Figure(figsize=(3.4 * columns + 0.6, 3.2 * rows + 0.6), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, sharex=shared, sharey=True, squeeze=False).ravel()
    for axes in grid[len(histories) :]:
        axes.axis("off")
    for i, (axes, (name, history)) in enumerate(zip(grid, histories.items(), strict=False)):
        lowest = i + columns >= len(histories)  # of its column
        best = history.loc[history["val_loss"].idxmin()]
        overfit = history["val_loss"] >= history["loss"]
        axes.fill_between(
            "epoch",
            "loss",
            "val_loss",
            where=overfit,
            data=history,
            color=VALIDATION,
            alpha=0.15,
            linewidth=0,
        )
        _plot_history(axes, history, "loss", markersize=3)
        axes.plot(
            best["epoch"],
            best["val_loss"],
            "*",
            color="black",
            markersize=9,
            label="lowest validation loss",
        )
        axes.set(title=name, xlabel="epoch" if lowest else "")
        axes.tick_params(labelbottom=lowest or not shared)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("cross-entropy (nats)")
    grid[0].legend(frameon=False, fontsize=8)
    return figure


def confusion_matrix(predictions: pd.DataFrame, class_names: list[str], title: str) -> Figure:
    """Draw how often each class (row) was predicted as each class (column), in images.

    Shade is the share of the row.
    """
    pairs = pd.crosstab(predictions["actual"], predictions["predicted"])
    counts = pairs.reindex(class_names, fill_value=0).reindex(columns=class_names, fill_value=0)
    counts = counts.to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7.5, 6.8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, counts[row, column], ha="center", va="center", fontsize=9, color=colour
            )
    axes.set_xticks(
        range(len(class_names)), class_names, rotation=40, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set(title=title, xlabel="predicted", ylabel="actual")
    axes.spines[:].set_visible(False)
    return figure


def samples(
    images: np.ndarray, labels: np.ndarray, class_names: list[str], title: str, each: int = 12
) -> Figure:
    """The first `each` images of every class, a row a class.

    `images` is (items, height, width) uint8.
    """
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
    axes.set_yticks(places, class_names, fontsize=10)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    return figure


def predictions(images: np.ndarray, table: pd.DataFrame, title: str) -> Figure:
    """Draw images with what the model says of them.

    It stands in green with a tick where right, in red with a cross where wrong. `images` is (items,
    height, width) uint8; `table` has their `actual`, `predicted` and `confidence`, row by row.
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
        right = row.actual == row.predicted
        verdict = f"✓ {row.predicted}" if right else f"✗ {row.predicted} (is {row.actual})"
        axes.annotate(
            f"{textwrap.fill(verdict, MAX_VERDICT)}\n{row.confidence:.1%} sure",
            (
                i % columns * (width + gaps[1]) + (width - 1) / 2,
                i // columns * (height + gaps[0]) - 0.5,
            ),
            (0, 4), textcoords="offset points", ha="center", va="bottom",
            fontsize=8 if len(verdict) <= MAX_VERDICT else 7,
            color=RIGHT if right else WRONG,
        )  # fmt: skip
    return figure


def top_classes(shown: list[tuple[np.ndarray, str, dict[str, float]]]) -> Figure:
    """Pictures, a row each, beside the probabilities of their likeliest classes.

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


def parallel_coordinates(
    trials: pd.DataFrame, metric: str, logarithmic: set[str], shares: dict[str, float], title: str
) -> Figure:
    """Draw the trials of a search: a line each across an axis per param to the `metric`.

    The better a trial, the darker its line; the best is red. `trials` has a row per trial, the best
    first, with the columns of `shares`: the params, and how much of the metric's variance each
    explains, in [0, 1], which stands under its axis. Axes of `logarithmic` params are so.
    """
    columns = [*shares, metric]
    figure = Figure(figsize=(2 * len(columns) + 0.5, 4.2), layout="constrained")
    axes = figure.subplots()
    heights = {}
    for i, column in enumerate(columns):
        values = trials[column]
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            values = values.map(
                {choice: place for place, choice in enumerate(sorted(values.unique(), key=str))}
            )
        values = np.log(values) if column in logarithmic else values.astype(float)
        low, high = values.min(), values.max()
        heights[column] = (values - low) / (high - low) if high > low else values * 0 + 0.5
        axes.axvline(i, color="0.6", linewidth=1)
        for place in dict.fromkeys((heights[column].idxmin(), heights[column].idxmax())):
            value = trials[column][place]
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            axes.annotate(
                text, (i, heights[column][place]), (5, 0), textcoords="offset points",
                fontsize=8, va="center", zorder=9,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none",
                      "alpha": 0.8},
            )  # fmt: skip
    for rank in reversed(range(len(trials))):
        line = [heights[column].iloc[rank] for column in columns]
        alpha = 0.8 - 0.7 * rank / len(trials)
        axes.plot(
            line,
            **({"color": TRAINING, "alpha": alpha} if rank else {"color": WRONG, "linewidth": 2.5}),
        )
    names = [f"{name}\nexplains {share:.0%}" for name, share in shares.items()]
    axes.set_xticks(range(len(columns)), [*names, metric], fontsize=9)
    axes.set(yticks=[], xlim=(-0.1, len(columns) - 0.6), title=title)
    axes.spines[:].set_visible(False)
    return figure


def _mosaic(tiles: np.ndarray, gap: int, gap_between_columns: int | None = None) -> np.ndarray:
    """Lay out images (rows, columns, height, width) in one, with gaps of so many pixels.

    Gaps are NaN, which is not drawn, as are missing images. One picture is drawn many times faster
    than one in axes of its own for each.
    """
    across = gap if gap_between_columns is None else gap_between_columns
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, across)), constant_values=np.nan)
    rows, columns, height, width = padded.shape
    whole = padded.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)
    return whole[: rows * height - gap, : columns * width - across]


def _show(axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
