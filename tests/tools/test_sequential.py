"""The sequential test: its error rates, with runs drawn for each test, and published values."""

import math

import numpy as np
import pandas as pd
import pytest

from tools.gate import sequential
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
ONLY_ACCURACY = {"metrics": {"accuracy": GATE.metrics["accuracy"]}}
COLUMNS = ["accuracy", "loss", "class_f1/Bag", "class_f1/Shirt"]
CORRELATION = np.array(
    [[1, -0.9, 0.3, 0.3], [-0.9, 1, -0.3, -0.3], [0.3, -0.3, 1, 0], [0.3, -0.3, 0, 1]]
)
MIX = np.linalg.cholesky(CORRELATION).T
CHECKS = 400
SAME, WORSE, BETTER = (0, 0, 0, 0), (-3, 3, 0, 0), (3, -3, 3, 3)


@pytest.fixture(autouse=True)
def generator(monkeypatch) -> np.random.Generator:
    monkeypatch.setattr(sequential, "SIMULATED", 20_000)  # bounds to 0.05, in a fifth of the time
    return np.random.default_rng(20261125)


def draw(generator, runs: int, shift=SAME) -> pd.DataFrame:
    """Draw runs of the metrics with standard deviation 1."""
    return pd.DataFrame(generator.standard_normal((runs, 4)) @ MIX + shift, columns=COLUMNS)


@pytest.fixture
def baseline(generator) -> pd.DataFrame:
    return draw(generator, 30)


@pytest.mark.parametrize(
    ("baseline_runs", "shift", "committed", "alarms", "passes"),
    [  # the lowest and highest share of regressions, and of "no loss"
        (8, SAME, SAME, (0.001, 0.041), (0, 1)),  # 0.02 and 3 standard errors
        (30, SAME, SAME, (0.001, 0.041), (0, 1)),
        (30, WORSE, WORSE, (0.9, 1), (0, 0.1)),  # by a margin
        (30, (0, 0, 0, -3), (0, 0, 0, -3), (0.9, 1), (0, 0.1)),
        (30, WORSE, SAME, (0.9, 1), (0, 0.1)),  # a good committed run alone settles nothing
        (30, BETTER, BETTER, (0, 0.02), (0.97, 1)),
    ],
)
def test_errors_are_as_rare_as_the_rules_say(
    generator, baseline_runs, shift, committed, alarms, passes
):
    """The baselines vary too."""
    analyses = plan_analyses(draw(generator, baseline_runs), GATE.interim_runs, GATE)
    found, checks = [], CHECKS if shift == SAME else CHECKS // 4  # which need not be as exact
    for _ in range(checks):
        before, now = draw(generator, baseline_runs), draw(generator, 8, shift)
        samples = [draw(generator, 1, committed), now[:2], now[:4], now]
        for analysis, runs in zip(analyses, samples, strict=True):
            finding, _ = decide(compare(before, runs, GATE, analysis))
            if finding != UNDECIDED:
                break
        found.append(finding)
    for finding, (lowest, highest) in ((REGRESSION, alarms), (NO_LOSS, passes)):
        assert lowest <= found.count(finding) / checks <= highest


def test_bounds_repeat_and_comparisons_share_the_false_alarms(baseline):
    alone, again = (plan_analyses(baseline, [2], GATE) for _ in range(2))
    shared = plan_analyses(baseline, [2], GATE, comparisons=2)
    assert alone == again
    assert all(two.worse > one.worse for one, two in zip(alone, shared, strict=True))


def test_bounds_follow_from_the_correlation(baseline):
    """If all metrics are the same, the largest t is as small as that of one."""
    same = pd.DataFrame(dict.fromkeys(baseline, baseline["accuracy"]))
    assert (
        plan_analyses(same, [2], GATE)[0].worse < plan_analyses(baseline, [2], GATE)[0].worse - 0.2
    )


def test_few_runs_count_little_as_correlation():
    values = pd.DataFrame({"a": [1.0, 2, 3, 5], "b": [2.0, 4, 6, 10], "c": [1.0] * 4})
    found = correlation_of(values)
    assert found.loc["a", "b"] == pytest.approx(4 / 7) and found.loc["a", "c"] == 0
    assert (np.diag(found) == 1).all()


def test_a_single_analysis_has_student_s_bound(monkeypatch):
    """One metric, one run against 30: t with 29 degrees of freedom has 2.462 above 1 %.

    The committed run's analysis spends all of that, as both analyses have equal information. The
    only analysis that may say "no loss" spends all of `missed`: 1.311 is above 10 %. Of two, with 2
    and 10 runs, the first has a quarter of the information and spends log(1 + (e - 1) / 4) of it:
    with 30 degrees of freedom, 1.869 is above 3.57 %. The second spends the rest: their correlation
    is 1/2, and by the bivariate t distribution (SciPy), 6.43 % are below 1.869, then above 1.450.
    """
    monkeypatch.setattr(sequential, "SIMULATED", 100_000)
    gate = GATE.model_copy(update={"false_alarms": 0.01} | ONLY_ACCURACY)
    table = pd.DataFrame({"accuracy": np.random.default_rng(0).standard_normal(30)})
    first, second = plan_analyses(table, [1], gate)
    assert first.worse == pytest.approx(2.462, abs=0.06)
    assert first.not_worse is None and second.not_worse == pytest.approx(1.311, abs=0.02)
    _, second, third = plan_analyses(table, [2, 10], gate)
    assert second.not_worse == pytest.approx(1.869, abs=0.03)
    assert third.not_worse == pytest.approx(1.450, abs=0.03)


def test_the_comparison_is_of_two_means_with_the_pooled_deviation(baseline, generator):
    now = draw(generator, 4)
    row = compare(baseline, now, GATE, Analysis(4, 3.0, 2.0)).loc["accuracy"]
    before, after = baseline["accuracy"].mean(), now["accuracy"].mean()
    assert [*row[["baseline", "candidate"]]] == pytest.approx([before, after])
    assert row["loss"] == pytest.approx(before - after)
    pooled = (29 * baseline["accuracy"].var() + 3 * now["accuracy"].var()) / 32
    error = math.sqrt(pooled * (1 / 4 + 1 / 30))
    assert row["t"] == pytest.approx(row["loss"] / error)
    assert row["chance"] == pytest.approx(3 * error)
    assert row["possible"] == pytest.approx(max(0, row["loss"] + 2 * error))


def test_each_metric_has_its_finding(baseline):
    """The standard error is about 0.5, so 1.5 is no clear loss, but more than is ruled out."""
    now = pd.DataFrame([baseline.mean() - [3, 3, 0, 1.5]] * 4)
    rows = compare(baseline, now, GATE, Analysis(4, 3.5, 2.0))
    assert [*rows["finding"]] == [sequential.WORSE, sequential.BETTER, NO_LOSS, UNDECIDED]


@pytest.mark.parametrize(
    ("runs", "loss", "finding"),
    [(1, 9.0, UNDECIDED), (2, 9.0, REGRESSION), (2, 1.9, UNDECIDED)],  # the margin is 2
)
def test_a_class_is_worse_if_several_runs_lose_its_margin(baseline, runs, loss, finding):
    """Single seeds lose one class: of 20 runs one, by more than ten standard deviations."""
    now = pd.DataFrame([baseline.mean() - [0, 0, 0, loss]] * runs)
    found, metric = decide(compare(baseline, now, GATE, Analysis(runs, 2.0, 9.0)))
    assert found == finding and (finding == UNDECIDED or metric == "class_f1/Shirt")


@pytest.mark.parametrize(("better", "floor"), [("higher", 0.5), ("lower", -0.5)])
def test_a_floor_holds_in_both_directions(baseline, better, floor):
    rule = {"better": better, "margin": 3.0, "floor": floor}
    gate = GATE.model_validate(GATE.model_dump() | {"metrics": {"accuracy": rule}})
    for value, finding in ((floor + 0.01, "higher"), (floor - 0.01, "lower")):
        now = pd.DataFrame({"accuracy": [value]})
        expected = UNDECIDED if finding == better else REGRESSION
        assert decide(compare(baseline, now, gate, Analysis(1, 9.0, 9.0)))[0] == expected


@pytest.mark.parametrize(("value", "expected"), [(0.5, NO_LOSS), (0.4, REGRESSION)])
def test_chance_explains_nothing_if_runs_do_not_vary(value, expected):
    still, now = (pd.DataFrame({"accuracy": [x] * 5}) for x in (0.5, value))
    gate = GATE.model_copy(update=ONLY_ACCURACY)
    assert decide(compare(still, now, gate, Analysis(5, 3.0, 2.0)))[0] == expected
