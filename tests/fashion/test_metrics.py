import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, log_loss, precision_recall_fscore_support

from fashion.metrics import (
    Tally,
    classification_metrics,
    expected_calibration_error,
    per_class,
    predictions,
)

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


def tally_of(labels, probabilities, names=(), bins=15) -> Tally:
    names = list(names) or [str(label) for label in range(probabilities.shape[1])]
    tally = Tally(names, bins)
    tally.add(predictions(labels, probabilities, names))
    return tally


def calibration_error(labels, probabilities, bins=15):
    return expected_calibration_error(tally_of(labels, probabilities, bins=bins))


@pytest.mark.filterwarnings("error")
def test_summary_by_hand():
    scores = classification_metrics(tally_of(LABELS, PROBABILITIES))
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    of_the_actual_class = [0.8, 0.5, 0.2, 0.9, 0.5, 0.25]
    assert scores["loss"] == pytest.approx(-sum(map(math.log, of_the_actual_class)) / 6, rel=1e-6)


def test_summary_is_made_of_plain_floats():
    scores = classification_metrics(tally_of(LABELS, PROBABILITIES))
    assert list(scores) == [
        "accuracy",
        "loss",
        "macro_f1",
        "expected_calibration_error",
        "accuracy_interval",
    ]
    low, high = scores.pop("accuracy_interval")
    assert {type(value) for value in (low, high, *scores.values())} == {float}


def test_perfect_predictions():
    scores = classification_metrics(tally_of(np.arange(4), np.eye(4, dtype=np.float32)))
    assert scores["accuracy"] == scores["macro_f1"] == 1
    assert scores["expected_calibration_error"] == 0
    assert scores["loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),  # the same
        (0, 20, 0, 0.1611),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
        (20, 20, 0.8389, 1),  # the third, mirrored
    ],
)
def test_accuracy_interval_is_wilsons(right, of, low, high):
    labels = np.array([0] * right + [1] * (of - right))
    probabilities = np.tile([0.9, 0.1], (of, 1))  # always predicts class 0
    interval = classification_metrics(tally_of(labels, probabilities))["accuracy_interval"]
    assert interval == pytest.approx([low, high], abs=5e-5)


def test_calibration_error_is_weighted_by_the_items_in_each_bin():
    labels = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.6, 0.4], [0.7, 0.3], [0.6, 0.4], [0.9, 0.1]])
    # of four bins, (0.5, 0.75] holds 0.6 right, 0.7 wrong, 0.6 wrong; (0.75, 1] holds 0.9 right
    assert calibration_error(labels, probabilities, bins=4) == pytest.approx(
        (abs(1 - 1.9) + abs(1 - 0.9)) / 4
    )


def test_calibration_errors_of_one_bin_cancel_and_of_two_do_not():
    # 0.6 right, 0.9 wrong
    labels, probabilities = np.array([0, 1]), np.array([[0.6, 0.4], [0.9, 0.1]])
    assert calibration_error(labels, probabilities, bins=1) == pytest.approx(abs(1 - 1.5) / 2)
    assert calibration_error(labels, probabilities, bins=2) == pytest.approx(abs(1 - 1.5) / 2)
    assert calibration_error(labels, probabilities, bins=4) == pytest.approx((0.4 + 0.9) / 2)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    labels = np.array([0, 1])
    probabilities = np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0]])  # 0.5 right, 0.75 wrong
    # (0, 0.5] and (0.5, 1]; were they closed below, both items would share one bin and the result
    # be 0.125
    assert calibration_error(labels, probabilities, bins=2) == pytest.approx((0.5 + 0.75) / 2)


@pytest.mark.parametrize(("label", "error"), [(0, 0), (1, 1)])
def test_full_confidence_is_calibrated_where_right_and_all_wrong_where_wrong(label, error):
    assert calibration_error(np.full(5, label), np.tile([1.0, 0.0], (5, 1))) == error


def test_per_class_by_hand():
    table = per_class(tally_of(LABELS, PROBABILITIES, NAMES))
    assert list(table) == ["class", "precision", "recall", "f1", "support"]
    assert table["class"].tolist() == NAMES
    assert table["precision"].tolist() == pytest.approx([1, 2 / 4, 0])
    assert table["recall"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert table["f1"].tolist() == pytest.approx([4 / 5, 2 / 3, 0])
    assert table["support"].tolist() == [3, 2, 1]


def test_per_class_names_classes_without_items():
    table = per_class(tally_of(LABELS, np.pad(PROBABILITIES, ((0, 0), (0, 1))), [*NAMES, "Shirt"]))
    assert table.iloc[-1].tolist() == ["Shirt", 0, 0, 0, 0]


def test_predictions_are_a_row_an_item_in_order():
    table = predictions(LABELS, PROBABILITIES, NAMES)
    assert list(table) == ["actual", "predicted", "confidence", "loss"]
    assert table["actual"].tolist() == ["Coat", "Coat", "Coat", "Bag", "Bag", "Dress"]
    assert table["predicted"].tolist() == ["Coat", "Coat", "Bag", "Bag", "Bag", "Bag"]
    assert table["confidence"].tolist() == pytest.approx([0.8, 0.5, 0.7, 0.9, 0.5, 0.5])


def test_losses_are_those_of_scikit_learn():
    table = predictions(LABELS, PROBABILITIES, NAMES)
    expected = log_loss(LABELS, PROBABILITIES.astype(np.float64), labels=range(3))
    assert table["loss"].mean() == pytest.approx(expected, rel=1e-7)


def test_the_loss_of_an_impossible_actual_class_is_finite_and_that_of_the_metric():
    labels, probabilities = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    table = predictions(labels, probabilities, ["a", "b"])
    expected = log_loss(labels, probabilities.astype(np.float64), labels=[0, 1])
    assert classification_metrics(tally_of(labels, probabilities))["loss"] == pytest.approx(
        expected
    )
    assert table["loss"].tolist() == pytest.approx([2 * expected, 0])


def test_tables_added_up_give_the_metrics_of_the_whole():
    tally, whole = Tally(NAMES), tally_of(LABELS, PROBABILITIES, NAMES)
    for part in (slice(4), slice(4, 6)):
        tally.add(predictions(LABELS[part], PROBABILITIES[part], NAMES))
    metrics, expected = classification_metrics(tally), classification_metrics(whole)
    assert metrics.pop("accuracy_interval") == expected.pop("accuracy_interval")
    assert metrics == pytest.approx(expected, rel=1e-15)
    pd.testing.assert_frame_equal(per_class(tally), per_class(whole))


def test_counts_give_what_scikit_learn_gives_for_the_items():
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 500)
    probabilities = random.dirichlet(np.ones(4), 500)
    predicted, metrics = probabilities.argmax(axis=1), tally_of(labels, probabilities)
    expected = f1_score(labels, predicted, average="macro")
    assert classification_metrics(metrics)["macro_f1"] == pytest.approx(expected, rel=1e-14)
    expected = precision_recall_fscore_support(labels, predicted)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert per_class(metrics)[name].tolist() == pytest.approx(values.tolist(), rel=1e-14)
