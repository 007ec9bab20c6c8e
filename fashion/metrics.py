"""Metrics of a classifier, from what it says of labelled images."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_recall_fscore_support

BINS = 15  # of the expected calibration error, as in the paper


def predictions(
    labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return the actual and the predicted class of every item, and how sure the model was.

    `labels` is (items,) integers, `probabilities` (items, classes) with rows that sum to 1. A row
    an item, in order; the classes by name, as categories in the order of `class_names`.
    `confidence` is the probability of the predicted class, `loss` the cross-entropy in nats: minus
    the logarithm of the actual class's probability, which is taken for no less than the machine
    epsilon of float64, as by scikit-learn's log_loss.
    """
    of_actual = normalized(probabilities)[np.arange(len(labels)), labels]
    codes = {"actual": labels, "predicted": probabilities.argmax(axis=1)}
    return pd.DataFrame(
        {column: pd.Categorical.from_codes(values, class_names) for column, values in codes.items()}
        | {
            "confidence": probabilities.max(axis=1),
            "loss": -np.log(np.maximum(of_actual, np.finfo(np.float64).eps)),
        }
    )


def normalized(probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities in float64, with rows that sum to 1 beyond float32's rounding."""
    return probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)


class Tally:
    """What the metrics need of predictions, added up table by table: `add` takes one.

    So memory does not grow with the items. `confusion` is (classes, classes) int64, how many items
    of the row's class were taken for the column's; `loss` the sum of the losses in nats; `gaps`
    (bins + 1,) the sums, over items in equal bins of confidence, of correctness less confidence.
    Bins are open below and closed above.
    """

    def __init__(self, class_names: list[str], bins: int = BINS):
        self.class_names = class_names
        self.confusion = np.zeros((len(class_names), len(class_names)), np.int64)
        self.loss = 0.0
        self.edges = np.linspace(0, 1, bins + 1)
        self.gaps = np.zeros(bins + 1)

    def add(self, predictions: pd.DataFrame) -> None:
        actual, predicted = (predictions[column].cat.codes for column in ("actual", "predicted"))
        np.add.at(self.confusion, (actual, predicted), 1)
        self.loss += predictions["loss"].sum()
        confidence = predictions["confidence"].to_numpy(np.float64)
        bin_of = np.digitize(confidence, self.edges, right=True)
        self.gaps += np.bincount(bin_of, (actual == predicted) - confidence, len(self.gaps))

    @property
    def cells(self) -> dict[str, np.ndarray]:
        """The confusion matrix as scikit-learn takes it: each cell once, with its weight."""
        actual, predicted = np.indices(self.confusion.shape).reshape(2, -1)
        return {"y_true": actual, "y_pred": predicted, "sample_weight": self.confusion.ravel()}


def classification_metrics(tally: Tally) -> dict[str, float | list[float]]:
    """Return the metrics that runs are compared by.

    Accuracy, macro F1 and the expected calibration error lie in [0, 1]; `loss` is the mean
    cross-entropy in nats; `accuracy_interval` is the 95 % Wilson score interval of the accuracy
    over the choice of test images (Wilson 1927).
    """
    items, correct = int(tally.confusion.sum()), int(tally.confusion.trace())
    interval = binomtest(correct, items).proportion_ci(0.95, method="wilson")
    return {
        "accuracy": correct / items,
        "loss": float(tally.loss / items),
        "macro_f1": float(f1_score(**tally.cells, average="macro", zero_division=0)),
        "expected_calibration_error": expected_calibration_error(tally),
        "accuracy_interval": [float(interval.low), float(interval.high)],
    }


def expected_calibration_error(tally: Tally) -> float:
    """Return the mean distance between confidence and accuracy over the bins of confidence.

    They are weighted by the items in each. Confidence is the probability of the predicted class. In
    [0, 1], 0 is perfect. Source: Guo et al. 2017, On Calibration of Modern Neural Networks,
    equation 3.
    """
    return float(abs(tally.gaps).sum() / tally.confusion.sum())


def per_class(tally: Tally) -> pd.DataFrame:
    """Return precision, recall, F1 and support of every class, a row a class.

    The first three are in [0, 1]; support is the number of items.
    """
    precision, recall, f1, _ = precision_recall_fscore_support(**tally.cells, zero_division=0)
    return pd.DataFrame(
        {
            "class": tally.class_names,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": tally.confusion.sum(axis=1),
        }
    )
