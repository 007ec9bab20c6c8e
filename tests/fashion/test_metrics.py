import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from fashion.metrics import Tally, classification_metrics, losses, per_class, predictions

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


def tally_of(labels, probabilities, names=(), bins=15, pieces=1) -> Tally:
    tally = Tally(list(names) or list(map(str, range(np.shape(probabilities)[1]))), bins)
    for part in np.array_split(np.arange(len(labels)), pieces):
        tally.add(np.array(labels)[part], np.array(probabilities)[part])
    return tally


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pieces", [1, 4])
def test_metrics_by_hand(pieces):
    scores = classification_metrics(tally_of(LABELS, PROBABILITIES, pieces=pieces))
    of_the_actual_class = [0.8, 0.5, 0.2, 0.9, 0.5, 0.25]
    # confidence and correctness of the bins: (7/15, 8/15] three of 0.5, two right; 0.7 wrong;
    # 0.8 and 0.9 right
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
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1),  # the third, mirrored
    ],
)
def test_accuracy_interval_is_wilsons(right, of, low, high):
    labels = np.array([0] * right + [1] * (of - right))
    tally = tally_of(labels, np.tile([0.9, 0.1], (of, 1)))  # always predicts class 0
    interval = classification_metrics(tally)["accuracy_interval"]
    assert interval == pytest.approx([low, high], abs=5e-5)
    assert math.copysign(1, interval[0]) == 1 and 0 <= interval[0] <= interval[1] <= 1  # no -0.0


@pytest.mark.parametrize(
    ("labels", "confidences", "bins", "error"),  # class 0 is always predicted
    [
        ([0, 1], [0.6, 0.9], 1, abs(1 - 1.5) / 2),  # errors within a bin cancel
        ([0, 1], [0.6, 0.9], 4, (0.4 + 0.9) / 2),
        # (0.5, 0.75] holds three, (0.75, 1] one: bins are weighted by their items
        ([0, 1, 1, 0], [0.6, 0.7, 0.6, 0.9], 4, (abs(1 - 1.9) + abs(1 - 0.9)) / 4),
        # (0, 0.5] and (0.5, 1]; closed below, both items would share one bin: 0.125
        ([0, 1], [0.5, 0.75], 2, (0.5 + 0.75) / 2),
        ([1] * 5, [1.0] * 5, 15, 1),
    ],
)
def test_calibration_error_by_hand(labels, confidences, bins, error):
    rest = [(1 - confidence) / 2 for confidence in confidences]
    tally = tally_of(labels, np.stack([confidences, rest, rest], axis=1), bins=bins)
    found = classification_metrics(tally)["ece"]
    assert found == pytest.approx(error)


def test_per_class_by_hand():
    """A class without items has zeros."""
    probabilities = np.pad(PROBABILITIES, ((0, 0), (0, 1)))
    table = per_class(tally_of(LABELS, probabilities, [*NAMES, "Shirt"]))
    columns = {
        "class": [*NAMES, "Shirt"],
        "precision": [1, 2 / 4, 0, 0],
        "recall": [2 / 3, 1, 0, 0],
        "f1": [4 / 5, 2 / 3, 0, 0],
        "support": [3, 2, 1, 0],
    }
    pd.testing.assert_frame_equal(table, pd.DataFrame(columns))


def test_predictions_are_a_row_an_item_in_order():
    table = predictions(LABELS, PROBABILITIES, NAMES)
    assert list(table) == ["actual", "predicted", "confidence", "loss"]
    assert table["actual"].tolist() == ["Coat", "Coat", "Coat", "Bag", "Bag", "Dress"]
    assert table["predicted"].tolist() == ["Coat", "Coat", "Bag", "Bag", "Bag", "Bag"]
    assert table["confidence"].tolist() == pytest.approx([0.8, 0.5, 0.7, 0.9, 0.5, 0.5])
    assert table["loss"].tolist() == losses(LABELS, PROBABILITIES).tolist()


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [(LABELS, PROBABILITIES), ([0, 1], np.array([[0, 1], [0, 1]], np.float32))],  # an impossible
)
def test_losses_are_those_of_scikit_learn(labels, probabilities):
    rows = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = [
        log_loss([label], row[None], labels=range(len(row)))
        for label, row in zip(labels, rows, strict=True)
    ]
    found = losses(np.array(labels), probabilities)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


def test_counts_give_what_scikit_learn_gives_for_the_items():
    random = np.random.default_rng(0)
    labels, probabilities = random.integers(0, 4, 500), random.dirichlet(np.ones(4), 500)
    predicted, tally = probabilities.argmax(axis=1), tally_of(labels, probabilities, pieces=3)
    expected = f1_score(labels, predicted, average="macro")
    assert classification_metrics(tally)["macro_f1"] == pytest.approx(expected, rel=1e-14)
    expected = np.transpose(precision_recall_fscore_support(labels, predicted))
    np.testing.assert_allclose(per_class(tally).drop(columns="class"), expected, rtol=1e-14)
