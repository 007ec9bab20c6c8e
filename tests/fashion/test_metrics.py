import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from fashion.metrics import classification_metrics, losses, per_class, predictions

# Six items, predicted as 0 0 1 1 1 1; class 2 is never predicted. Confusions, actual class by row:
#   2 1 0     precision 2/2, recall 2/3, F1 4/5
#   0 2 0     precision 2/4, recall 2/2, F1 2/3
#   0 1 0     precision 0 by convention, recall 0/1, F1 0
LABELS = np.array([0, 0, 0, 1, 1, 2], np.uint8)
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.5, 0.25, 0.25],
        [0.2, 0.7, 0.1],
        [0.1, 0.9, 0],
        [0.25, 0.5, 0.25],
        [0.25, 0.5, 0.25],
    ],
    np.float32,
)
NAMES = ["Coat", "Bag", "Dress"]


def scores_of(labels, confidences) -> dict:
    """Return the metrics of a model that always predicts class 0, with these confidences."""
    rest = [(1 - confidence) / 2 for confidence in confidences]
    probabilities = np.stack([confidences, rest, rest], axis=1)
    return classification_metrics(predictions(labels, probabilities, NAMES))


@pytest.mark.filterwarnings("error")
def test_metrics_by_hand():
    scores = classification_metrics(predictions(LABELS, PROBABILITIES, NAMES))
    of_the_actual_class = [0.8, 0.5, 0.2, 0.9, 0.5, 0.25]
    # bins: (7/15, 8/15] has three items of 0.5, two of them right; 0.7 is wrong; 0.8, 0.9 are right
    gaps = abs(2 - 3 * 0.5) + 0.7 + (1 - 0.8) + (1 - 0.9)
    low, high = scores.pop("accuracy_interval")
    assert scores == {
        "accuracy": pytest.approx(4 / 6),
        "loss": pytest.approx(-sum(map(math.log, of_the_actual_class)) / 6, rel=1e-6),
        "macro_f1": pytest.approx((4 / 5 + 2 / 3 + 0) / 3),
        "ece": pytest.approx(gaps / 6, rel=1e-6),
    }
    assert {type(value) for value in (low, high, *scores.values())} == {float}


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    [(81, 263, 0.2553, 0.3662), (0, 20, 0, 0.1611), (20, 20, 0.8389, 1)],  # the last one mirrored
)
def test_the_accuracy_interval_is_wilsons(right, of, low, high):
    interval = scores_of([0] * right + [1] * (of - right), [0.9] * of)["accuracy_interval"]
    assert interval == pytest.approx([low, high], abs=5e-5)
    assert math.copysign(1, interval[0]) == 1 and 0 <= interval[0] <= interval[1] <= 1  # no -0.0


@pytest.mark.parametrize(
    ("labels", "confidences", "error"),
    [
        ([0, 1], [0.61, 0.65], abs(1 - 1.26) / 2),  # errors within a bin cancel
        ([0, 1], [0.7, 0.75], (0.3 + 0.75) / 2),  # the edge 11/15 is between them
        ([0, 1], [0.8, 0.85], (0.2 + 0.85) / 2),  # 0.8 is an edge, and belongs to the bin below
        ([1] * 5, [1.0] * 5, 1),
    ],
)
def test_the_calibration_error_by_hand(labels, confidences, error):
    assert scores_of(labels, confidences)["ece"] == pytest.approx(error)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [(LABELS, PROBABILITIES), ([0, 1], np.array([[0, 1], [0, 1]], np.float32))],  # 0 is possible
)
def test_losses_are_those_of_scikit_learn(labels, probabilities):
    rows = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = [
        log_loss([label], row[None], labels=range(len(row)))
        for label, row in zip(labels, rows, strict=True)
    ]
    found = losses(np.array(labels), probabilities)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


def test_scores_per_class_are_those_of_scikit_learn_and_0_for_a_class_without_items():
    random, names = np.random.default_rng(0), ["a", "b", "c", "d", "once", "none"]
    labels = random.integers(0, 4, 500)
    probabilities = np.pad(random.dirichlet(np.ones(4), 500), ((0, 0), (0, 2)))
    labels[0], probabilities[0] = 4, np.eye(6)[4]
    predicted, table = probabilities.argmax(axis=1), predictions(labels, probabilities, names)
    scores = {"labels": range(6), "zero_division": 0}
    expected = f1_score(labels, predicted, average="macro", **scores)
    assert classification_metrics(table)["macro_f1"] == pytest.approx(expected, rel=1e-14)
    expected = np.transpose(precision_recall_fscore_support(labels, predicted, **scores))
    found = per_class(table)
    assert found["class"].tolist() == names
    np.testing.assert_allclose(found.drop(columns="class"), expected, rtol=1e-14)
