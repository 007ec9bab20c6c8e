"""Metrics of a classifier, from its probabilities on labelled images."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support

BINS = 15  # of the expected calibration error, as in the paper


def classification_metrics(
    labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, float | list[float]]:
    """Return the metrics that runs are compared by.

    `labels` is (items,) integers, `probabilities` (items, classes) with rows that sum to 1.
    Accuracy, macro F1 and the expected calibration error lie in [0, 1]; `loss` is the mean
    cross-entropy in nats; `accuracy_interval` is the 95 % Wilson score interval of the accuracy
    over the choice of test images (Wilson 1927).
    """
    predicted = probabilities.argmax(axis=1)
    interval = binomtest(int((predicted == labels).sum()), len(labels)).proportion_ci(
        0.95, method="wilson"
    )
    classes = np.arange(probabilities.shape[1])
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "loss": float(log_loss(labels, normalized(probabilities), labels=classes)),
        "macro_f1": float(
            f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
        ),
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
        "accuracy_interval": [float(interval.low), float(interval.high)],
    }


def normalized(probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities in float64, with rows that sum to 1 beyond float32's rounding."""
    return probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> float:
    """Return the mean distance between confidence and accuracy over equal bins of confidence.

    The bins are weighted by the items in each. Confidence is the probability of the predicted
    class; bins are open below and closed above. In [0, 1], 0 is perfect. Source: Guo et al. 2017,
    On Calibration of Modern Neural Networks, equation 3.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.digitize(confidence, np.linspace(0, 1, bins + 1), right=True)
    return float(abs(np.bincount(bin_of, correct - confidence)).sum() / len(labels))


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return precision, recall, F1 and support of every class, a row a class.

    The first three are in [0, 1]; support is the number of items.
    """
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(len(class_names)), zero_division=0
    )
    return pd.DataFrame(
        dict(zip(["precision", "recall", "f1", "support"], columns, strict=True))
    ).assign(**{"class": class_names})[["class", "precision", "recall", "f1", "support"]]


def predictions(
    labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]
) -> pd.DataFrame:
    """Return the actual and the predicted class of every item, and how sure the model was.

    A row an item, in order; the classes by name. `confidence` is the probability of the predicted
    class, `loss` the cross-entropy in nats: minus the logarithm of the actual class's probability,
    which is taken for no less than the machine epsilon of float64, as by scikit-learn's log_loss.
    """
    names = np.array(class_names)
    of_actual = normalized(probabilities)[np.arange(len(labels)), labels]
    return pd.DataFrame(
        {
            "actual": names[labels],
            "predicted": names[probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1),
            "loss": -np.log(np.maximum(of_actual, np.finfo(np.float64).eps)),
        }
    )
