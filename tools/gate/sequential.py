"""The sequential test by which `check` judges: did the distribution of the metrics get worse?

Its looks are at 1, 3, 5 and 9 runs, say, each with another seed. At each look the means of these
runs are compared with those of the baseline's runs, whose seeds are in its metrics/noise.json.

- **Worse**: the largest of the metrics' t statistics is above a bound. The metrics move together,
  so the bound comes from simulated runs with their measured correlation; it is such that unchanged
  runs are above it, at any of the looks, with the probability `false_alarms` (Lan and DeMets 1983,
  Discrete sequential boundaries for clinical trials; the spending function is Pocock's). A fifth of
  this probability is kept for the paired test below.
- **Worse, by pairs**: each run is compared with the baseline's run of the same seed. Where seeds
  do the same to both, Student's paired t test sees smaller losses. It is valid whether they do.
- **Not worse**: for every metric, a loss of its margin is ruled out. A change that costs just the
  margin passes so, at any of the looks, with the probability `missed` at most.

At the last look, what is not shown to be worse holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tools.gate.config import Gate

SIMULATED = 100_000  # pairs of a baseline and a change
PAIRED_SHARE = 0.2  # of the false alarms
PAIRED_METRICS = ("accuracy", "loss")  # means over images, the same in both runs of a pair
HOLDS, REGRESSION, UNDECIDED = "holds", "regression", "undecided"


@dataclass(frozen=True)
class Look:
    """The bounds at a number of runs, for the statistics of `compare`."""

    runs: int
    worse: float  # of the largest t
    worse_by_pairs: float | None  # of a paired t; one pair has none
    not_worse: float  # of (margin - loss) / standard error, for every metric


@dataclass(frozen=True)
class Comparison:
    """One metric of the runs so far against the baseline's.

    `loss` is how much worse the mean is, below 0 where it is better; `standard_error` that of the
    difference of the two means.
    """

    metric: str
    baseline: float
    now: float
    loss: float
    standard_error: float
    margin: float
    paired_t: float | None  # for PAIRED_METRICS and two pairs at least

    @property
    def t(self) -> float:
        return self.loss / self.standard_error

    def is_worse_by_pairs(self, look: "Look") -> bool:
        return (
            self.paired_t is not None
            and look.worse_by_pairs is not None
            and self.paired_t >= look.worse_by_pairs
        )

    def chance(self, look: Look) -> float:
        """How much worse chance explains."""
        return look.worse * self.standard_error

    def largest_loss(self, look: Look) -> float:
        """The largest loss that is not ruled out."""
        return self.loss + look.not_worse * self.standard_error


def plan_looks(baseline: pd.DataFrame, gate: Gate, comparisons: int = 1) -> list[Look]:
    """Return the looks with their bounds.

    `baseline` has a row a run and a column a gated metric. The `comparisons` that are made with the
    same runs share the probability of a false alarm. The same arguments give the same bounds.
    """
    from scipy.stats import t  # slow, so only where it is needed

    count = len(baseline)
    information = 1 / (1 / np.array(gate.looks) + 1 / count)
    spent = np.log(1 + (np.e - 1) * information / information[-1])  # Pocock's, in [0, 1]
    newly = np.diff(spent, prepend=0)
    alpha = gate.false_alarms / comparisons
    statistics = _simulate(baseline.corr().to_numpy(), count, gate.looks)
    worse = _bounds(statistics.max(axis=2), newly * alpha * (1 - PAIRED_SHARE))
    not_worse = _bounds(statistics[:, :, 0], newly * gate.missed)
    tails = newly * alpha * PAIRED_SHARE / len(PAIRED_METRICS)
    paired = [
        float(t.isf(tail, runs - 1)) if runs > 1 else None
        for tail, runs in zip(tails, gate.looks, strict=True)
    ]
    return [Look(*bounds) for bounds in zip(gate.looks, worse, paired, not_worse, strict=True)]


def _simulate(correlation: np.ndarray, count: int, looks: Sequence[int]) -> np.ndarray:
    """Return t statistics of unchanged runs, (pairs, looks, metrics)."""
    generator = np.random.default_rng(0)
    values, vectors = np.linalg.eigh(correlation)
    mix = (vectors * np.sqrt(values.clip(0))).T  # few runs make it singular
    blocks = []
    for _ in range(0, SIMULATED, 10_000):
        normal = generator.standard_normal((10_000, count + looks[-1], len(mix)), np.float32)
        runs = normal @ mix.astype(np.float32)
        before, now = runs[:, :count], runs[:, count:]
        mean, std = before.mean(axis=1), before.std(axis=1, ddof=1)
        blocks.append(
            [
                (now[:, :runs].mean(axis=1) - mean) / (std * np.sqrt(1 / runs + 1 / count))
                for runs in looks
            ]
        )
    return np.concatenate([np.stack(block, axis=1) for block in blocks])


def _bounds(statistics: np.ndarray, newly: np.ndarray) -> list[float]:
    """Return the bound of each look, above which the share `newly` of all pairs comes first.

    `statistics` is (pairs, looks).
    """
    bounds, left = [], statistics
    for look, share in enumerate(newly):
        sorted_ = np.sort(left[:, look])
        bounds.append(float(sorted_[-max(1, round(share * len(statistics)))]))
        left = left[left[:, look] < bounds[-1]]
    return bounds


def compare(baseline: pd.DataFrame, now: pd.DataFrame, gate: Gate) -> list[Comparison]:
    """Compare runs with the baseline's, metric by metric; both have seeds as index."""
    _, first, second = np.intersect1d(baseline.index, now.index, return_indices=True)  # the pairs
    comparisons = []
    for metric, rule in gate.metrics.items():
        sign = -1 if rule.better == "higher" else 1
        before, after = baseline[metric].to_numpy(), now[metric].to_numpy()
        std = before.std(ddof=1)
        comparisons.append(
            Comparison(
                metric,
                baseline=float(before.mean()),
                now=float(after.mean()),
                loss=float(sign * (after.mean() - before.mean())),
                standard_error=float(std * np.sqrt(1 / len(after) + 1 / len(before))),
                margin=rule.margin,
                paired_t=_paired_t(sign * (after[second] - before[first]))
                if metric in PAIRED_METRICS
                else None,
            )
        )
    return comparisons


def _paired_t(losses: np.ndarray) -> float | None:
    if len(losses) < 2:
        return None
    error = losses.std(ddof=1) / np.sqrt(len(losses))
    if error == 0:
        return 0.0 if losses.mean() == 0 else float(np.copysign(1e9, losses.mean()))
    return float(losses.mean() / error)


def verdict(comparisons: list[Comparison], look: Look) -> tuple[str, Comparison]:
    """Return HOLDS, REGRESSION or UNDECIDED, and the metric that decided."""
    worst = max(comparisons, key=lambda comparison: comparison.t)
    if worst.t >= look.worse:
        return REGRESSION, worst
    for comparison in comparisons:
        if comparison.is_worse_by_pairs(look):
            return REGRESSION, comparison
    nearest = max(comparisons, key=lambda row: row.largest_loss(look) / row.margin)
    return (HOLDS if nearest.largest_loss(look) < nearest.margin else UNDECIDED), nearest
