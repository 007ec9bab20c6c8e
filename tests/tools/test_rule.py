import math

import pytest

from tools.gate.rule import judge, tolerance


def test_the_tolerance_is_that_of_a_difference_of_two_means():
    known = 10**6  # runs from which the deviation was measured: so many that it is as good as known
    assert tolerance(0.005, known, 3) == pytest.approx(3 * 0.005 * math.sqrt(2), rel=1e-4)
    means = tolerance(0.005, known, 3, runs_before=10, runs_now=5)
    assert means == pytest.approx(3 * math.sqrt(0.005**2 / 10 + 0.005**2 / 5), rel=1e-4)


def test_a_deviation_estimated_from_few_runs_needs_a_wider_tolerance():
    """Student's t with 9 degrees of freedom is 2.262 where the normal distribution has 1.960.

    Both are from published tables.
    """
    assert tolerance(1, 10, 1.95996) == pytest.approx(2.26216 * math.sqrt(2), rel=1e-5)


def test_several_metrics_share_the_probability_of_a_false_alarm():
    """Half of the upper 5 % tail with 9 degrees of freedom is the upper 2.5 % tail: 2.262.

    The value is from published tables.
    """
    assert tolerance(1, 10, 1.644854, metrics=2) == pytest.approx(2.26216 * math.sqrt(2), rel=1e-5)


@pytest.mark.parametrize(
    ("baseline", "now", "better", "verdict", "reason"),
    [
        (0.88, 0.87, "higher", "holds", ""),
        (0.88, 0.86, "higher", "holds", ""),  # exactly on the bound
        (0.88, 0.8599, "higher", "regression", "worse than noise explains"),
        (0.88, 0.95, "higher", "holds", ""),
        (0.30, 0.31, "lower", "holds", ""),
        (0.30, 0.32, "lower", "holds", ""),
        (0.30, 0.3201, "lower", "regression", "worse than noise explains"),
        (0.30, 0.10, "lower", "holds", ""),
        (0.88, None, "higher", "regression", "missing now"),
        (0.88, math.nan, "higher", "regression", "not a number now"),
        (0.88, math.inf, "higher", "regression", "not a number now"),
        (0.88, "0.88", "higher", "regression", "not a number now"),
        (0.88, True, "higher", "regression", "not a number now"),
        (None, 0.88, "higher", "can't judge", "new: the baseline does not have it"),
        ("high", 0.88, "higher", "can't judge", "not a number in the baseline"),
        (math.nan, 0.88, "higher", "can't judge", "not a number in the baseline"),
        (1, 1, "higher", "holds", ""),
    ],
)
def test_a_metric_is_judged(baseline, now, better, verdict, reason):
    row = judge("metric", baseline, now, 0.02, better=better)
    assert (row.verdict, row.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("now", "bounds", "verdict"),
    [
        (0.85, {"floor": 0.85}, "holds"),
        (0.8499, {"floor": 0.85}, "regression"),
    ],
)
def test_absolute_bounds_hold_whatever_the_baseline(now, bounds, verdict):
    assert judge("metric", now, now, 1.0, better="higher", **bounds).verdict == verdict


def test_a_metric_whose_noise_was_not_measured_is_not_passed_over():
    assert judge("metric", 0.88, 0.88, None, better="higher").verdict == "can't judge"
