"""Draw plots that compare experiments and trials, as matplotlib Figures.

They are not in fashion/plots, so a change of them makes no stage stale.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fashion.plots.figures import TRAINING, VALIDATION, WRONG, plot_history


def compare_losses(histories: dict[str, pd.DataFrame], title: str) -> Figure:
    """Draw training and validation loss of several runs, a panel each, with overfitting shaded.

    `histories` maps a run's name to the content of its history.csv. All panels have the same loss
    axis. They have the same epoch axis unless the longest run has more than four times as many
    epochs as the shortest.
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
        is_lowest = i + columns >= len(histories)  # of the panels in its column
        _plot_losses(axes, history)
        axes.set(title=name, xlabel="epoch" if is_lowest else "")
        axes.tick_params(labelbottom=is_lowest or not shared)
    grid[0].set_ylabel("cross-entropy (nats)")
    grid[0].legend(frameon=False, fontsize=8)
    return figure


def _plot_losses(axes: Axes, history: pd.DataFrame) -> None:
    overfit = history["val_loss"] >= history["loss"]
    shade = {"color": VALIDATION, "alpha": 0.15, "linewidth": 0}
    axes.fill_between("epoch", "loss", "val_loss", where=overfit, data=history, **shade)
    plot_history(axes, history, "loss", markersize=3)
    best = history.loc[history["val_loss"].idxmin()]
    star = {"color": "black", "markersize": 9, "label": "lowest validation loss"}
    axes.plot(best["epoch"], best["val_loss"], "*", **star)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def parallel_coordinates(
    trials: pd.DataFrame, metric: str, logarithmic: set[str], shares: dict[str, float], title: str
) -> Figure:
    """Draw each trial of a sweep as a line that crosses an axis for each param and the metric's.

    The best trial is red; of the others, better ones are darker. `trials` has a row for each trial,
    the best first, and a column for each param and for the `metric`. `shares` maps each param to
    the share of the metric's variance that it explains, in [0, 1], which is written below its axis.
    The params in `logarithmic` have logarithmic axes.
    """
    columns = [*shares, metric]
    figure = Figure(figsize=(2 * len(columns) + 0.5, 4.2), layout="constrained")
    axes = figure.subplots()
    heights = {column: _heights(trials[column], column in logarithmic) for column in columns}
    for i, column in enumerate(columns):
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
        rest = {"color": TRAINING, "alpha": 0.8 - 0.7 * rank / len(trials)}
        axes.plot(line, **(rest if rank else {"color": WRONG, "linewidth": 2.5}))
    scale = {name: " (log)" * (name in logarithmic) for name in shares}
    names = [f"{name}{scale[name]}\nexplains {share:.0%}" for name, share in shares.items()]
    axes.set_xticks(range(len(columns)), [*names, metric], fontsize=9)
    axes.set(yticks=[], xlim=(-0.1, len(columns) - 0.6), title=title)
    axes.spines[:].set_visible(False)
    return figure


def _heights(values: pd.Series, logarithmic: bool) -> pd.Series:
    """Return the height of each value on its axis, from 0 for the lowest to 1 for the highest."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        choices = sorted(values.unique(), key=str)
        values = values.map({choice: place for place, choice in enumerate(choices)})
    values = np.log(values) if logarithmic else values.astype(float)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else values * 0 + 0.5
