"""The group sequential test that `check` judges by: did the metrics get worse over seeds?

Each run has another seed. The first interim analysis looks at the committed run alone; the others
look at 2, 4 and 10 further runs, say, and not at the committed one, whose seed its author chose.
Each compares the mean of these runs with the mean of the baseline's runs.

- **Worse**: the largest of the metrics' t statistics is above a bound. The metrics move together,
  so the bound comes from simulated runs with their measured correlation. Unchanged runs exceed it
  at any of the analyses with the probability `false_alarms` (Lan and DeMets 1983, Discrete
  sequential boundaries for clinical trials; the spending function is Pocock's).
- **No loss**: for every metric, a loss of its margin is ruled out. A change that costs just the
  margin passes so at any of the analyses with the probability `missed` at most. The committed run
  alone never shows this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tools.gate.config import Gate, MetricRule

SIMULATED = 100_000  # pairs of an unchanged candidate and its baseline
NO_LOSS, REGRESSION, UNDECIDED = "no loss", "regression", "undecided"


@dataclass(frozen=True)
class Analysis:
    """An interim analysis: how many runs it compares, and the bounds of its statistics."""

    runs: int  # of the candidate; 1 in the first analysis, of the committed run
    worse: float  # of the largest t
    not_worse: float | None  # of (margin - loss) / standard error; None in the first analysis


@dataclass(frozen=True)
class Comparison:
    """One metric of the candidate's runs against the baseline's.

    `loss` is how much worse the mean is, below 0 where it is better. `standard_error` is that of
    the difference of the two means.
    """

    metric: str
    baseline: float
    candidate: float
    loss: float
    standard_error: float
    rule: MetricRule
    analysis: Analysis

    @property
    def t(self) -> float:
        """Return the t statistic; where runs do not vary, any difference is beyond all bounds."""
        if self.standard_error == 0:
            return 0.0 if self.loss == 0 else float(np.copysign(np.inf, self.loss))
        return self.loss / self.standard_error

    @property
    def is_worse(self) -> bool:
        """Whether chance does not explain the loss.

        Of a class, the loss has to be its margin at least, over several runs: single seeds lose up
        to seven points of one class, much more often than a normal distribution has it.
        """
        if self.t < self.analysis.worse:
            return False
        return not self.is_class or (self.analysis.runs > 1 and self.loss >= self.rule.margin)

    @property
    def is_class(self) -> bool:
        return "/" in self.metric

    @property
    def is_better(self) -> bool:
        return self.t <= -self.analysis.worse

    @property
    def chance(self) -> float:
        """Return how large a loss chance explains."""
        return self.analysis.worse * self.standard_error

    @property
    def largest_loss(self) -> float:
        """Return the largest loss that is not ruled out."""
        if self.analysis.not_worse is None:
            return np.inf
        return max(0.0, self.loss + self.analysis.not_worse * self.standard_error)

    @property
    def is_below_floor(self) -> bool:
        rule = self.rule
        return rule.floor is not None and rule.sign * (self.candidate - rule.floor) > 0


def plan_analyses(
    baseline: pd.DataFrame, counts: Sequence[int], gate: Gate, comparisons: int = 1
) -> list[Analysis]:
    """Return the interim analyses with their bounds; the same arguments give the same bounds.

    `baseline` has a row a run and a column a gated metric. The first analysis is of the committed
    run, the others of so many further runs as `counts` says. `comparisons` with the same runs share
    the probability of a false alarm.
    """
    sizes = [1, *counts]
    statistics = _simulate(correlation_of(baseline).to_numpy(), len(baseline), sizes)
    alpha = gate.false_alarms / comparisons
    worse = _bounds(statistics.max(axis=2), _newly_spent(sizes, len(baseline)) * alpha)
    newly_missed = _newly_spent(counts, len(baseline)) * gate.missed
    not_worse = _bounds(statistics[:, 1:, 0], newly_missed)
    return [Analysis(*row) for row in zip(sizes, worse, [None, *not_worse], strict=True)]


def correlation_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the correlation of metrics over runs, drawn towards none the fewer the runs are.

    Few runs show too large correlations, which would make the bounds too low. The weight of the
    measured ones is the share of the runs in runs and metrics together.
    """
    weight = len(runs) / (len(runs) + runs.shape[1])
    none = np.eye(runs.shape[1])
    return runs.corr().fillna(0) * weight * (1 - none) + none


def _newly_spent(sizes: Sequence[int], baseline_runs: int) -> np.ndarray:
    """Return the share of a probability that each analysis spends, by Pocock's function."""
    information = 1 / (1 / np.array(sizes) + 1 / baseline_runs)
    spent = np.log(1 + (np.e - 1) * information / information[-1])
    return np.diff(spent, prepend=0)


def _simulate(correlation: np.ndarray, baseline_runs: int, sizes: Sequence[int]) -> np.ndarray:
    """Return t statistics of unchanged runs, (SIMULATED, analyses, metrics).

    The first analysis has a run of its own, as the committed one is.
    """
    generator = np.random.default_rng(0)
    values, vectors = np.linalg.eigh(correlation)
    mix = (vectors * np.sqrt(values.clip(0))).T.astype(np.float32)
    blocks = []
    for _ in range(0, SIMULATED, 10_000):
        shape = (10_000, baseline_runs + 1 + sizes[-1], len(mix))
        runs = generator.standard_normal(shape, np.float32) @ mix
        before, committed, further = np.split(runs, [baseline_runs, baseline_runs + 1], axis=1)
        samples = [committed, *(further[:, :size] for size in sizes[1:])]
        block = [
            (now.mean(axis=1) - before.mean(axis=1)) / _standard_error(before, now, axis=1)
            for now in samples
        ]
        blocks.append(np.stack(block, axis=1))
    return np.concatenate(blocks)


def _standard_error(before: np.ndarray, now: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the standard error of the difference of two means, by the pooled variance."""
    squares = sum(
        ((sample - sample.mean(axis=axis, keepdims=True)) ** 2).sum(axis=axis)
        for sample in (before, now)
    )
    counts = before.shape[axis], now.shape[axis]
    return np.sqrt(squares / (sum(counts) - 2) * sum(1 / count for count in counts))


def _bounds(statistics: np.ndarray, newly: np.ndarray) -> list[float]:
    """Return the bound of each analysis, above which the share `newly` of all pairs comes first.

    `statistics` is (pairs, analyses).
    """
    bounds, left = [], statistics
    for number, share in enumerate(newly):
        ordered = np.sort(left[:, number])
        bounds.append(float(ordered[-max(1, round(share * len(statistics)))]))
        left = left[left[:, number] < bounds[-1]]
    return bounds


def compare(
    baseline: pd.DataFrame, candidate: pd.DataFrame, gate: Gate, analysis: Analysis
) -> list[Comparison]:
    """Compare runs with the baseline's by each gated metric; the tables have a row a run."""
    comparisons = []
    for metric, rule in gate.rules_by_column(baseline.columns).items():
        before, now = baseline[metric].to_numpy(), candidate[metric].to_numpy()
        loss = rule.sign * (now.mean() - before.mean())
        error = float(_standard_error(before, now))
        means = float(before.mean()), float(now.mean())
        comparisons.append(Comparison(metric, *means, float(loss), error, rule, analysis))
    return comparisons


def decide(comparisons: list[Comparison]) -> tuple[str, Comparison]:
    """Return NO_LOSS, REGRESSION or UNDECIDED, and the metric that decided or is undecided."""
    worst = max(comparisons, key=lambda row: (row.is_worse or row.is_below_floor, row.t))
    if worst.is_worse or worst.is_below_floor:
        return REGRESSION, worst
    nearest = max(comparisons, key=lambda row: row.largest_loss / row.rule.margin)
    return (NO_LOSS if nearest.largest_loss < nearest.rule.margin else UNDECIDED), nearest
