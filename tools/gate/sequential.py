"""Test group-sequentially, for `make check`, whether metrics are worse over seeds.

Each run has a different seed. The first interim analysis compares the committed run with the mean
of the baseline's runs. The later ones compare the mean of further runs, for example of 2, 4 and 10.
The committed run is not one of these, since its author chose its seed.

- **Worse**: the largest t statistic of all metrics is above a bound. Metrics are correlated, so the
  bound comes from simulated runs with the measured correlation. Over all analyses, unchanged runs
  exceed it with the probability `false_alarms` (Lan and DeMets 1983, Discrete sequential boundaries
  for clinical trials; the spending function is Pocock's).
- **No loss**: for every metric, a loss of its margin is ruled out. Over all analyses, a change that
  costs exactly the margin passes with the probability `missed` at most. The committed run alone
  never shows "no loss".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tools.gate.config import Gate

SIMULATED = 100_000  # pairs of an unchanged candidate and its baseline
REGRESSION, NO_LOSS, UNDECIDED = "regression", "no loss", "undecided"
BELOW_FLOOR, WORSE, BETTER = "below floor", "worse", "better"  # findings about one metric


@dataclass(frozen=True)
class Analysis:
    """An interim analysis: how many runs it compares, and the bounds of its statistics."""

    runs: int  # of the candidate; in the first analysis 1, the committed run
    worse: float  # bound of the largest t
    not_worse: float | None  # bound of (margin - loss) / standard error; None in the first analysis


def plan_analyses(
    baseline: pd.DataFrame, counts: Sequence[int], gate: Gate, comparisons: int = 1
) -> list[Analysis]:
    """Return the interim analyses with their bounds; the same arguments give the same bounds.

    `baseline` has a row per run, and a column per metric. The first analysis is that of the
    committed run; each of the others has its number of further runs in `counts`. The probability of
    a false alarm is divided by the number of `comparisons`, which have the same runs.
    """
    baseline = baseline[[*gate.rules_by_column(baseline)]]
    sizes = [1, *counts]
    statistics = _simulate(correlation_of(baseline).to_numpy(), len(baseline), sizes)
    alpha = gate.false_alarms / comparisons
    worse = _bounds(statistics.max(axis=2), _newly_spent(sizes, len(baseline)) * alpha)
    newly_missed = _newly_spent(counts, len(baseline)) * gate.missed
    not_worse = _bounds(statistics[:, 1:, 0], newly_missed)
    return [Analysis(*row) for row in zip(sizes, worse, [None, *not_worse], strict=True)]


def correlation_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the correlation of metrics over runs, shrunk towards 0 if the runs are few.

    Few runs show too large correlations, which would make the bounds too low. The measured ones
    have the weight runs / (runs + metrics).
    """
    weight = len(runs) / (len(runs) + runs.shape[1])
    none = np.eye(runs.shape[1])
    return runs.corr().fillna(0) * weight * (1 - none) + none


def _newly_spent(sizes: Sequence[int], baseline_runs: int) -> np.ndarray:
    """Return the share of a probability that each analysis spends by Pocock's function."""
    information = 1 / (1 / np.array(sizes) + 1 / baseline_runs)
    spent = np.log(1 + (np.e - 1) * information / information[-1])
    return np.diff(spent, prepend=0)


def _simulate(correlation: np.ndarray, baseline_runs: int, sizes: Sequence[int]) -> np.ndarray:
    """Return t statistics of unchanged runs, (SIMULATED, analyses, metrics).

    As in a check, the run of the first analysis is not among the further runs.
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


def _standard_error(before: np.ndarray, now: np.ndarray, axis: int) -> np.ndarray:
    """Return the standard error of the difference of two means, by the pooled variance."""
    squares = sum(
        ((sample - sample.mean(axis=axis, keepdims=True)) ** 2).sum(axis=axis)
        for sample in (before, now)
    )
    counts = before.shape[axis], now.shape[axis]
    return np.sqrt(squares / (sum(counts) - 2) * sum(1 / count for count in counts))


def _bounds(statistics: np.ndarray, newly: np.ndarray) -> list[float]:
    """Return the bound of each analysis.

    For each analysis, `newly` is the share of all pairs that exceed its bound and none before.
    `statistics` is (pairs, analyses).
    """
    bounds, remaining = [], statistics
    for number, share in enumerate(newly):
        ordered = np.sort(remaining[:, number])
        bounds.append(float(ordered[-max(1, round(share * len(statistics)))]))
        remaining = remaining[remaining[:, number] < bounds[-1]]
    return bounds


def compare(
    baseline: pd.DataFrame, candidate: pd.DataFrame, gate: Gate, analysis: Analysis
) -> pd.DataFrame:
    """Compare runs with the baseline's; both tables have a row per run.

    Returns a row per gated metric: the means `baseline` and `candidate`; how much worse the
    candidate's is (`loss`, negative if it is better); the statistic `t`; the largest loss that
    `chance` explains; the largest loss that is not ruled out (`possible`); `margin` and `floor`;
    and the `finding`: BELOW_FLOOR, WORSE, BETTER, NO_LOSS or UNDECIDED. A class is worse only if
    it loses its margin over several runs: single seeds lose up to seven points of one class, much
    more often than in a normal distribution.
    """
    rules = gate.rules_by_column(baseline)
    before, now = (runs[[*rules]].to_numpy(float) for runs in (baseline, candidate))
    sign, margin = np.array([(rule.sign, rule.margin) for rule in rules.values()]).T
    floor = np.array([rule.floor for rule in rules.values()], float)  # NaN if there is none
    means, error = (before.mean(axis=0), now.mean(axis=0)), _standard_error(before, now, axis=0)
    loss = sign * (means[1] - means[0])
    with np.errstate(divide="ignore", invalid="ignore"):  # if runs do not vary, 0 or infinite
        t = np.where(loss == 0, 0, loss / error)
    possible = np.full(len(rules), np.inf)
    if analysis.not_worse is not None:
        possible = (loss + analysis.not_worse * error).clip(0)
    is_metric = np.array(["/" not in name for name in rules])
    is_clear = is_metric | ((analysis.runs > 1) & (loss >= margin))
    findings = {
        BELOW_FLOOR: sign * (means[1] - floor) > 0,
        WORSE: (t >= analysis.worse) & is_clear,
        BETTER: t <= -analysis.worse,
        NO_LOSS: possible < margin,
    }
    finding = np.select([*findings.values()], [*findings], UNDECIDED)
    columns = {"baseline": means[0], "candidate": means[1], "loss": loss, "t": t}
    columns |= {"chance": analysis.worse * error, "possible": possible, "margin": margin}
    return pd.DataFrame(columns | {"floor": floor, "finding": finding}, index=[*rules])


def decide(rows: pd.DataFrame) -> tuple[str, Any]:
    """Return REGRESSION, NO_LOSS or UNDECIDED, and the row that decides or is furthest off."""
    worse = rows[rows["finding"].isin([BELOW_FLOOR, WORSE])]
    if len(worse):
        return REGRESSION, worse["t"].idxmax()
    shares = rows["possible"] / rows["margin"]
    return (NO_LOSS if shares.max() < 1 else UNDECIDED), shares.idxmax()
