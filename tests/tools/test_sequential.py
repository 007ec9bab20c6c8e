"""The sequential test: its error rates, by runs drawn for each test, and published values."""

import math

import numpy as np
import pandas as pd
import pytest

from tools.gate.config import Gate
from tools.gate.sequential import (
    NO_LOSS,
    REGRESSION,
    UNDECIDED,
    Analysis,
    compare,
    correlation_of,
    decide,
    plan_analyses,
)

GATE = Gate.model_validate(
    {
        "false_alarms": 0.02,
        "missed": 0.1,
        "interim_runs": [2, 4, 8],
        "metrics": {
            "accuracy": {"better": "higher", "margin": 3.0},
            "loss": {"better": "lower", "margin": 3.0},
            "class_f1": {"better": "higher", "margin": 2.0},
        },
    }
)
COLUMNS = ["accuracy", "loss", "class_f1/Bag", "class_f1/Shirt"]
CORRELATION = np.array(
    [[1, -0.9, 0.3, 0.3], [-0.9, 1, -0.3, -0.3], [0.3, -0.3, 1, 0], [0.3, -0.3, 0, 1]]
)
MIX = np.linalg.cholesky(CORRELATION).T
CHECKS = 600
SAME = (0, 0, 0, 0)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(20261125)


def draw(generator, runs: int, shift=SAME) -> pd.DataFrame:
    """Draw runs of the metrics with deviation 1."""
    return pd.DataFrame(generator.standard_normal((runs, 4)) @ MIX + shift, columns=COLUMNS)


@pytest.fixture
def baseline(generator) -> pd.DataFrame:
    return draw(generator, 30)


def rates(generator, baseline_runs: int, shift, committed=None) -> tuple[float, float]:
    """Return the shares of regressions and of "no loss", over baselines that vary too."""
    analyses = plan_analyses(draw(generator, baseline_runs), GATE.interim_runs, GATE)
    found = []
    for _ in range(CHECKS):
        before, now = draw(generator, baseline_runs), draw(generator, 8, shift)
        first = draw(generator, 1, shift if committed is None else committed)
        for analysis, runs in zip(analyses, [first, now[:2], now[:4], now], strict=True):
            finding, _ = decide(compare(before, runs, GATE, analysis))
            if finding != UNDECIDED:
                break
        found.append(finding)
    return found.count(REGRESSION) / CHECKS, found.count(NO_LOSS) / CHECKS


@pytest.mark.parametrize("baseline_runs", [8, 30])
def test_unchanged_runs_are_called_a_regression_as_often_as_allowed(generator, baseline_runs):
    alarms, _ = rates(generator, baseline_runs, SAME)
    assert 0 < alarms <= 0.02 + 3 * math.sqrt(0.02 * 0.98 / CHECKS)  # 3 standard errors


@pytest.mark.parametrize("shift", [(-3, 3, 0, 0), (0, 0, 0, -3)])
def test_a_loss_of_a_margin_is_found(generator, shift):
    found, passed = rates(generator, 30, shift)
    assert found >= 0.9 and passed <= 0.1


def test_what_got_better_is_no_loss(generator):
    alarms, passed = rates(generator, 30, (3, -3, 3, 3))
    assert alarms <= 0.02 and passed >= 0.97


def test_a_good_committed_run_alone_does_not_settle_it(generator):
    found, _ = rates(generator, 30, (-3, 3, 0, 0), committed=SAME)
    assert found >= 0.9


def test_comparisons_share_the_false_alarms(baseline):
    alone = plan_analyses(baseline, [2], GATE)
    shared = plan_analyses(baseline, [2], GATE, comparisons=2)
    assert all(two.worse > one.worse for one, two in zip(alone, shared, strict=True))


def test_the_bounds_are_the_same_each_time(baseline):
    assert plan_analyses(baseline, [2], GATE) == plan_analyses(baseline, [2], GATE)


def test_bounds_follow_from_the_correlation(generator):
    """Of metrics that are one and the same, the largest t is as small as that of one."""
    apart = draw(generator, 60)
    same = pd.DataFrame(dict.fromkeys(apart, apart["accuracy"]))
    assert plan_analyses(same, [2], GATE)[0].worse < plan_analyses(apart, [2], GATE)[0].worse - 0.2


def test_few_runs_count_little_as_correlation():
    values = pd.DataFrame({"a": [1.0, 2, 3, 5], "b": [2.0, 4, 6, 10], "c": [1.0] * 4})
    found = correlation_of(values)
    assert found.loc["a", "b"] == pytest.approx(4 / 7) and found.loc["a", "c"] == 0
    assert (np.diag(found) == 1).all()


def test_a_single_analysis_has_student_s_bound():
    """One metric, one run against 30: t with 29 degrees of freedom has 2.462 above 1 %.

    The committed run's analysis spends a part of that, here all but nothing.
    """
    gate = GATE.model_copy(
        update={"false_alarms": 0.01, "metrics": {"accuracy": GATE.metrics["accuracy"]}}
    )
    table = pd.DataFrame({"accuracy": np.random.default_rng(0).standard_normal(30)})
    first, second = plan_analyses(table, [1], gate)
    assert first.worse == pytest.approx(2.462, abs=0.06)  # both analyses have equal information
    assert first.not_worse is None and second.not_worse > 0


def test_the_comparison_is_of_two_means_with_the_pooled_deviation(baseline, generator):
    now = draw(generator, 4)
    row = compare(baseline, now, GATE, Analysis(4, 3.0, 2.0))[0]
    assert row.loss == pytest.approx(baseline["accuracy"].mean() - now["accuracy"].mean())
    pooled = (29 * baseline["accuracy"].var() + 3 * now["accuracy"].var()) / 32
    assert row.standard_error == pytest.approx(math.sqrt(pooled * (1 / 4 + 1 / 30)))
    assert row.chance == 3 * row.standard_error
    assert row.largest_loss == pytest.approx(max(0, row.loss + 2 * row.standard_error))


@pytest.mark.parametrize(
    ("runs", "loss", "finding"),
    [(1, 9.0, UNDECIDED), (2, 9.0, REGRESSION), (2, 1.9, UNDECIDED)],  # the margin is 2
)
def test_a_class_is_worse_if_several_runs_lose_its_margin(baseline, runs, loss, finding):
    now = pd.DataFrame([baseline.mean() - [0, 0, 0, loss]] * runs)
    found, row = decide(compare(baseline, now, GATE, Analysis(runs, 2.0, 9.0)))
    assert found == finding and (finding == UNDECIDED or row.metric == "class_f1/Shirt")


def test_single_seeds_that_lose_a_class_are_no_false_alarm(generator):
    """As they do with the real data: of 20 runs one, by more than ten standard deviations."""
    spread = [1, 1, 0.1, 1]
    before = draw(generator, 30) * spread
    analyses = plan_analyses(before, GATE.interim_runs, GATE)
    for _ in range(100):
        now = draw(generator, 8) * spread
        now.loc[generator.integers(8), "class_f1/Bag"] -= 2.6
        for analysis, runs in zip(analyses, [now[:1], now[:2], now[:4], now], strict=True):
            rows = compare(before, runs, GATE, analysis)
            assert not any(row.is_worse for row in rows if row.metric == "class_f1/Bag")


@pytest.mark.parametrize(("better", "floor"), [("higher", 0.5), ("lower", -0.5)])
def test_a_floor_holds_in_both_directions(baseline, better, floor):
    rule = {"better": better, "margin": 3.0, "floor": floor}
    gate = GATE.model_validate(GATE.model_dump() | {"metrics": {"accuracy": rule}})
    for value, finding in ((floor + 0.01, "higher"), (floor - 0.01, "lower")):
        now = pd.DataFrame({"accuracy": [value]})
        expected = UNDECIDED if finding == better else REGRESSION
        assert decide(compare(baseline, now, gate, Analysis(1, 9.0, 9.0)))[0] == expected


def test_runs_that_do_not_vary_have_no_chance():
    still = pd.DataFrame({"accuracy": [0.5] * 5})
    for value, expected in ((0.5, NO_LOSS), (0.4, REGRESSION)):
        now = pd.DataFrame({"accuracy": [value] * 2})
        assert decide(compare(still, now, GATE, Analysis(2, 3.0, 2.0)))[0] == expected
