"""The sequential test: its error rates, by draws of its own, and published values."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from tools.gate.config import Gate
from tools.gate.sequential import HOLDS, REGRESSION, UNDECIDED, Look, compare, plan_looks, verdict

GATE = Gate.model_validate(
    {
        "false_alarms": 0.02,
        "missed": 0.1,
        "looks": [1, 3, 5, 9],
        "metrics": {
            "accuracy": {"better": "higher", "margin": 3.0},
            "loss": {"better": "lower", "margin": 3.0},
            "other": {"better": "higher", "margin": 3.0},
        },
    }
)
CORRELATION = np.array([[1, -0.95, 0.3], [-0.95, 1, -0.3], [0.3, -0.3, 1]])
MIX = np.linalg.cholesky(CORRELATION).T
CHECKS = 1500


@pytest.fixture(scope="module")
def generator() -> np.random.Generator:
    return np.random.default_rng(20261125)


@pytest.fixture(scope="module")
def baseline(generator) -> pd.DataFrame:
    return draw(generator, 30)


@pytest.fixture(scope="module")
def looks(baseline) -> list[Look]:
    return plan_looks(baseline, GATE)


def draw(generator, runs: int, shift=(0, 0, 0), first_seed: int = 0) -> pd.DataFrame:
    """Draw runs of three metrics with deviation 1."""
    values = generator.standard_normal((runs, 3)) @ MIX + shift
    return pd.DataFrame(
        values, columns=list(GATE.metrics), index=range(first_seed, first_seed + runs)
    )


def decide(baseline, now, looks) -> tuple[str, int]:
    for look in looks:
        found, _ = verdict(compare(baseline, now.iloc[: look.runs], GATE), look)
        if found != UNDECIDED:
            break
    return found, look.runs


def rate(generator, looks, shift) -> tuple[float, float]:
    """Return the share of regressions, and the median number of runs; baselines vary too."""
    results = [decide(draw(generator, 30), draw(generator, 9, shift), looks) for _ in range(CHECKS)]
    return (
        sum(found == REGRESSION for found, _ in results) / CHECKS,
        float(np.median([runs for _, runs in results])),
    )


def test_unchanged_runs_are_called_a_regression_as_often_as_allowed(generator, looks):
    alarms, runs = rate(generator, looks, (0, 0, 0))
    # 3 standard errors; less are called, as what is settled is not looked at again
    assert 0 < alarms <= 0.02 + 3 * math.sqrt(0.02 * 0.98 / CHECKS)
    assert runs == 1


def test_a_loss_of_a_margin_is_missed_at_most_as_often_as_allowed(generator, looks):
    found, runs = rate(generator, looks, (-3, 3, 0))
    assert found >= 0.9 and runs <= 3


def test_a_loss_of_one_metric_alone_is_found(generator, looks):
    found, _ = rate(generator, looks, (0, 0, -3))
    assert found >= 0.9


def test_what_got_better_is_no_regression(generator, looks):
    alarms, runs = rate(generator, looks, (3, -3, 0))
    assert alarms <= 0.02 and runs == 1


def test_comparisons_share_the_false_alarms(baseline, looks):
    shared = plan_looks(baseline, GATE, comparisons=2)
    assert all(two.worse > one.worse for one, two in zip(looks, shared, strict=True))


def test_the_bounds_are_the_same_each_time(baseline, looks):
    assert plan_looks(baseline, GATE) == looks


def test_bounds_follow_from_the_correlation(generator):
    """Of metrics that are one and the same, the largest t is as small as that of one."""
    alone = pd.DataFrame({"accuracy": draw(generator, 30)["accuracy"]})
    same = alone.assign(loss=-alone["accuracy"], other=alone["accuracy"])
    apart = pd.DataFrame(generator.standard_normal((30, 3)), columns=list(GATE.metrics))
    assert plan_looks(same, GATE)[1].worse < plan_looks(apart, GATE)[1].worse


def test_a_single_look_has_student_s_bound():
    """One metric, one run against 30: t with 29 degrees of freedom has 2.462 above 1 %."""
    gate = GATE.model_copy(
        update={
            "looks": [1],
            "false_alarms": 0.0125,  # a fifth is for the paired test
            "metrics": {"accuracy": GATE.metrics["accuracy"]},
        }
    )
    table = pd.DataFrame({"accuracy": np.random.default_rng(0).standard_normal(30)})
    assert plan_looks(table, gate)[0].worse == pytest.approx(2.462, abs=0.05)


def test_the_comparison_is_of_two_means(baseline):
    now = draw(np.random.default_rng(1), 4)
    row = compare(baseline, now, GATE)[0]
    assert row.loss == pytest.approx(baseline["accuracy"].mean() - now["accuracy"].mean())
    std = baseline["accuracy"].std()
    assert row.standard_error == pytest.approx(std * math.sqrt(1 / 4 + 1 / 30))


def test_the_paired_test_is_student_s_over_the_seeds_of_both(baseline):
    now = draw(np.random.default_rng(1), 4, first_seed=28)  # two of which the baseline has
    row = compare(baseline, now, GATE)[1]
    pairs = [28, 29]
    expected = ttest_rel(now["loss"][pairs], baseline["loss"][pairs]).statistic
    assert row.paired_t == pytest.approx(expected)
    assert compare(baseline, now.iloc[:1], GATE)[1].paired_t is None


def test_a_small_loss_that_is_the_same_for_every_seed_is_found_by_pairs(baseline, looks):
    now = baseline.iloc[:9] - np.array([0.3, -0.3, 0]) + 0.001 * np.arange(9)[:, None]
    found, row = verdict(compare(baseline, now, GATE), looks[-1])
    assert found == REGRESSION and row.is_worse_by_pairs(looks[-1]) and row.t < looks[-1].worse


def test_the_metric_that_decides_is_named(baseline, looks):
    now = draw(np.random.default_rng(1), 1, shift=(0, 0, -9))
    found, row = verdict(compare(baseline, now, GATE), looks[0])
    assert (found, row.metric) == (REGRESSION, "other")


def test_a_margin_that_is_not_ruled_out_leaves_it_undecided(baseline, looks):
    middle = pd.DataFrame([baseline.mean() - [2, -2, 0]])
    assert verdict(compare(baseline, middle, GATE), looks[0])[0] == UNDECIDED
    assert verdict(compare(baseline, pd.DataFrame([baseline.mean()]), GATE), looks[0])[0] == HOLDS
