"""Metrics of a classifier, from the probabilities that it gives labelled images."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd

BINS = 15  # of the expected calibration error, as in the paper


def predictions(
    labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return a row for each item, in order: its classes by name, and how sure the model was.

    `labels` is (items,) integers, `probabilities` (items, classes) with rows that sum to 1.
    `confidence` is the probability of the predicted class, `loss` the item's of `losses`.
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

    It is minus the logarithm of the actual class's probability, which counts as at least the
    machine epsilon of float64, as in scikit-learn's log_loss. Rows are scaled to sum to 1 in
    float64 first.
    """
    sums = probabilities.sum(axis=1, dtype=np.float64)
    of_actual = probabilities[np.arange(len(labels)), labels] / sums
    return -np.log(np.maximum(of_actual, np.finfo(np.float64).eps))


class Tally:
    """The sums that the metrics need, to which `add` adds some items' labels and probabilities.

    So memory does not grow with the items. `confusion` is (classes, classes) int64: how many items
    of the row's class were predicted as the column's. `loss` is the sum of the losses in nats.
    `gaps`, (bins + 1,), are the sums of correctness less confidence over the items in equal bins of
    confidence, which are open below and closed above.
    """

    def __init__(self, class_names: list[str], bins: int = BINS):
        self.class_names = class_names
        self.confusion = np.zeros((len(class_names), len(class_names)), np.int64)
        self.loss = 0.0
        self.edges = np.linspace(0, 1, bins + 1)
        self.gaps = np.zeros(bins + 1)

    def add(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        confidence = confidence.astype(np.float64)
        np.add.at(self.confusion, (labels, predicted), 1)
        self.loss += losses(labels, probabilities).sum()
        bin_of = np.digitize(confidence, self.edges, right=True)
        self.gaps += np.bincount(bin_of, (labels == predicted) - confidence, len(self.gaps))


def classification_metrics(tally: Tally) -> dict[str, float | list[float]]:
    """Return the metrics that runs are compared by.

    `loss` is the mean cross-entropy in nats; the others lie in [0, 1]. `accuracy_interval` is the
    accuracy's 95 % Wilson score interval over the choice of test images (Wilson 1927). `ece` is the
    expected calibration error: the mean distance between confidence and accuracy over the bins of
    confidence, weighted by their items (Guo et al. 2017, On Calibration of Modern Neural Networks,
    equation 3); 0 is perfect.
    """
    items, correct = int(tally.confusion.sum()), int(tally.confusion.trace())
    return {
        "accuracy": correct / items,
        "loss": float(tally.loss / items),
        "macro_f1": float(per_class(tally)["f1"].mean()),
        "ece": float(abs(tally.gaps).sum() / items),
        "accuracy_interval": wilson_interval(correct, items),
    }


def wilson_interval(correct: int, items: int) -> list[float]:
    """Return the bounds of the 95 % Wilson score interval of a share, in [0, 1]."""
    z, share = NormalDist().inv_cdf(0.975), correct / items
    centre = (share + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z * math.sqrt(share * (1 - share) / items + z**2 / (4 * items**2)) / (1 + z**2 / items)
    return [max(0.0, centre - half), min(1.0, centre + half)]


def per_class(tally: Tally) -> pd.DataFrame:
    """Return a row for each class: precision, recall and F1 in [0, 1], support in items.

    A ratio without items, 0/0, is 0.
    """
    hits, actual = tally.confusion.diagonal(), tally.confusion.sum(axis=1)
    predicted = tally.confusion.sum(axis=0)
    return pd.DataFrame(
        {
            "class": tally.class_names,
            "precision": hits / np.maximum(predicted, 1),
            "recall": hits / np.maximum(actual, 1),
            "f1": 2 * hits / np.maximum(actual + predicted, 1),
            "support": actual,
        }
    )
