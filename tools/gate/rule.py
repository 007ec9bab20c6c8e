"""The rule by which `check` judges.

It says how much worse a metric may be before noise can't explain it.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

HOLDS, REGRESSION, UNKNOWN = "holds", "regression", "can't judge"


@dataclass(frozen=True)
class MetricComparison:
    """One line of the comparison.

    `change` is now minus baseline; `tolerance` is how much worse it may get.
    """

    metric: str
    baseline: Any
    now: Any
    change: float | None
    tolerance: float | None
    verdict: Literal["holds", "regression", "can't judge"]
    reason: str = ""


def tolerance(
    std: float,
    measured: int,
    sigmas: float,
    *,
    metrics: int = 1,
    runs_before: int = 1,
    runs_now: int = 1,
) -> float:
    """How far the means of two groups of runs may lie apart before chance can't explain it.

    `std` is the standard deviation of one run over seeds, estimated from `measured` runs. The
    difference of two means has the variances of both: std² / runs_before + std² / runs_now.
    `sigmas` times its root would do for one metric whose standard deviation is known. As it is
    estimated, Student's t takes the place of the normal distribution; as several `metrics` are
    looked at, each gets its share of the probability of a false alarm (Bonferroni).
    """
    from scipy.stats import norm, t  # slow, so only where it is needed

    quantile = float(t.isf(norm.sf(sigmas) / metrics, measured - 1))
    return quantile * std * math.sqrt(1 / runs_before + 1 / runs_now)


def judge(
    metric: str,
    baseline: Any,
    now: Any,
    allowed: float | None,
    *,
    better: Literal["higher", "lower"],
    floor: float | None = None,
) -> MetricComparison:
    """Judge one metric; `allowed` is its tolerance.

    Exactly on the bound still holds. Nothing odd passes for good.
    """

    change = now - baseline if _is_number(now) and _is_number(baseline) else None

    def row(verdict: str, reason: str = "") -> MetricComparison:
        return MetricComparison(metric, baseline, now, change, allowed, verdict, reason)

    if now is None:
        return row(REGRESSION, "missing now")
    if not _is_number(now):
        return row(REGRESSION, "not a number now")
    if floor is not None and now < floor:
        return row(REGRESSION, f"below its floor of {floor}")
    if baseline is None:
        return row(UNKNOWN, "new: the baseline does not have it")
    if change is None:
        return row(UNKNOWN, "not a number in the baseline")
    if allowed is None:
        return row(UNKNOWN, "its noise was not measured")
    worse = -change if better == "higher" else change
    if worse > allowed and not math.isclose(worse, allowed, rel_tol=1e-9):
        return row(REGRESSION, "worse than noise explains")
    return row(HOLDS)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
