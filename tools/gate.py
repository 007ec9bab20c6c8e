"""The rule by which `check` judges: how much worse a metric may be before noise can't explain it."""

import math
from dataclasses import dataclass
from typing import Any, Literal

HOLDS, REGRESSION, UNKNOWN = "holds", "regression", "can't judge"


@dataclass(frozen=True)
class Row:
    """One line of the comparison. `change` is now minus baseline; `tolerance` is how much worse it may get."""

    metric: str
    baseline: Any
    now: Any
    change: float | None
    tolerance: float | None
    verdict: Literal["holds", "regression", "can't judge"]
    reason: str = ""


def tolerance(deviation: float, sigmas: float, runs_before: int = 1, runs_now: int = 1) -> float:
    """How far the means of two groups of runs may lie apart: `sigmas` standard deviations of their difference.

    `deviation` is the standard deviation of one run over seeds. The difference of two independent means has the variances
    of both: deviation² / runs_before + deviation² / runs_now.
    """
    return sigmas * deviation * math.sqrt(1 / runs_before + 1 / runs_now)


def judge(
    metric: str,
    baseline: Any,
    now: Any,
    allowed: float | None,
    *,
    better: Literal["higher", "lower"],
    floor: float | None = None,
    ceiling: float | None = None,
) -> Row:
    """Judge one metric; `allowed` is its tolerance. Exactly on the bound still holds. Nothing odd passes for good."""

    def row(verdict: str, reason: str, change: float | None = None) -> Row:
        return Row(metric, baseline, now, change, allowed, verdict, reason)

    if now is None:
        return row(REGRESSION, "missing now")
    if not _is_number(now):
        return row(REGRESSION, "not a number now")
    if floor is not None and now < floor:
        return row(REGRESSION, f"below its floor of {floor}")
    if ceiling is not None and now > ceiling:
        return row(REGRESSION, f"above its ceiling of {ceiling}")
    if baseline is None:
        return row(UNKNOWN, "new: the baseline does not have it")
    if not _is_number(baseline):
        return row(UNKNOWN, "not a number in the baseline")
    change = now - baseline
    if allowed is None:
        return row(UNKNOWN, "its noise was not measured", change)
    worse = -change if better == "higher" else change
    if worse > allowed and not math.isclose(worse, allowed, rel_tol=1e-9):
        return row(REGRESSION, "worse than noise explains", change)
    return row(HOLDS, "", change)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
