"""Compute metrics of a classifier from its probabilities for labelled images.

What a metric needs of an image's probabilities is a column of `predictions`.
"""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd

BINS = 15  # of confidence, for the expected calibration error; as in the paper


def predictions(
    labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return a row for each item, in order, with its classes by name.

    `labels` is (items,) integers, `probabilities` (items, classes) with rows that sum to 1. The
    columns are `actual`, `predicted`, `confidence`, which is the probability of the predicted
    class, and `loss`, as `losses` returns it.
    """
    return pd.DataFrame(
        {
            "actual": pd.Categorical.from_codes(labels, class_names),
            "predicted": pd.Categorical.from_codes(probabilities.argmax(axis=1), class_names),
            "confidence": probabilities.max(axis=1),
            "loss": losses(labels, probabilities),
        }
    )


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each item in nats, (items,) float64.

    It is minus the logarithm of the actual class's probability. As in scikit-learn's log_loss, each
    row is first scaled to sum to 1 in float64, and a probability counts as at least the machine
    epsilon of float64.
    """
    sums = probabilities.sum(axis=1, dtype=np.float64)
    of_actual = probabilities[np.arange(len(labels)), labels] / sums
    return -np.log(np.maximum(of_actual, np.finfo(np.float64).eps))


def classification_metrics(table: pd.DataFrame) -> dict[str, float | list[float]]:
    """Return the metrics of a table of `predictions`.

    `loss` is the mean cross-entropy in nats; the others lie in [0, 1]. `accuracy_interval` is the
    accuracy's 95 % Wilson score interval over the choice of test images (Wilson 1927). `ece` is the
    expected calibration error: the mean distance between confidence and accuracy over BINS bins of
    confidence, weighted by their items (Guo et al. 2017, On Calibration of Modern Neural Networks,
    equation 3); 0 is perfect. Bins have equal widths, are open below and closed above.
    """
    is_right = (table["actual"] == table["predicted"]).to_numpy()
    confidence = table["confidence"].to_numpy(np.float64)
    bin_of = np.digitize(confidence, np.linspace(0, 1, BINS + 1), right=True)
    return {
        "accuracy": float(is_right.mean()),
        "loss": float(table["loss"].mean()),
        "macro_f1": float(per_class(table)["f1"].mean()),
        "ece": float(abs(np.bincount(bin_of, is_right - confidence)).sum() / len(table)),
        "accuracy_interval": wilson_interval(int(is_right.sum()), len(table)),
    }


def wilson_interval(correct: int, items: int) -> list[float]:
    """Return the bounds of the 95 % Wilson score interval of a share, in [0, 1]."""
    z, share = NormalDist().inv_cdf(0.975), correct / items
    centre = (share + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z * math.sqrt(share * (1 - share) / items + z**2 / (4 * items**2)) / (1 + z**2 / items)
    return [max(0.0, centre - half), min(1.0, centre + half)]


def per_class(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each class: precision, recall and F1 in [0, 1], support in items.

    A ratio without items, 0/0, is 0.
    """
    counts = pd.crosstab(table["actual"], table["predicted"], dropna=False).to_numpy()
    hits, actual, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return pd.DataFrame(
        {
            "class": list(table["actual"].cat.categories),
            "precision": hits / np.maximum(predicted, 1),
            "recall": hits / np.maximum(actual, 1),
            "f1": 2 * hits / np.maximum(actual + predicted, 1),
            "support": actual,
        }
    )
