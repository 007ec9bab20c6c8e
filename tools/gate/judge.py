"""Judge a candidate: rebuild it, score it, and train further seeds until it is settled."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from fashion.core.errors import UserError
from tools.dvc import pipeline_hashes, resolve_revision
from tools.gate.candidate import rebuild, score_shipped
from tools.gate.config import Gate, gate_at
from tools.gate.noise import MIN_SEEDS, NOISE, SEEDS, noise_at
from tools.gate.score import ROUNDING, Scorer, scorer_of
from tools.gate.sequential import (
    NO_LOSS,
    REGRESSION,
    UNDECIDED,
    Comparison,
    compare,
    decide,
    plan_analyses,
)
from tools.pipeline import clean_clone

BASELINE, REFERENCE = "baseline", "reference"
ORDER = (REGRESSION, UNDECIDED, NO_LOSS)
OUTLIER = 4  # standard deviations


@dataclass(frozen=True)
class Judgement:
    """What the scores show, and what that rests on.

    `shipped` has the numbers of the committed run, `runs` those of the further seeds, a row a seed;
    `opponents` those of what they are compared with, BASELINE and maybe REFERENCE. `claims` are the
    metrics by the candidate's own code.
    """

    finding: str  # NO_LOSS, REGRESSION or UNDECIDED
    decisive: Comparison  # the metric that settled it, or that is furthest from being settled
    against: str  # BASELINE or REFERENCE
    comparisons: dict[str, list[Comparison]]
    opponents: dict[str, pd.DataFrame]
    shipped: dict[str, float]
    runs: pd.DataFrame
    claims: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def judge(baseline: str, candidate: str, most: int | None) -> Judgement:
    """Judge a candidate commit by the code and the rules of a baseline commit.

    At most `most` further seeds are trained. Raises CannotJudge, or another UserError, where
    nothing can be said.
    """
    gate = gate_at(baseline)
    with scorer_of(baseline) as scorer, clean_clone("candidate", candidate) as pipeline:
        remarks, same_validation = rebuild(pipeline, scorer)
        shipped = score_shipped(pipeline, scorer, same_validation).numbers
        if missing := gate.metrics.keys() - {name.split("/")[0] for name in shipped}:
            raise UserError(
                f"gate.yaml of {baseline[:7]} names {', '.join(sorted(missing))}, which the code"
                " there does not measure. Name another baseline: --baseline REV"
            )
        noise, why_not = find_noise(baseline, gate, scorer)
        first = scorer.pipeline.seed
        pool = range(first, first + SEEDS) if noise is None else noise.index
        seeds = [seed for seed in pool if seed != pipeline.seed]
        random.Random(candidate).shuffle(seeds)  # noqa: S311
        counts = sorted({min(count, most or count, len(seeds)) for count in gate.interim_runs})
        if noise is None:
            started = time.monotonic()
            noise = scorer.measure(scorer.pipeline, seeds[: max(MIN_SEEDS, counts[-1])])
            cost = f"{len(noise)} seeds of the baseline were trained as well, which took"
            remarks += [f"{cost} {time.monotonic() - started:.0f} s: {why_not}."]

        def train(done: int, count: int) -> pd.DataFrame:
            return scorer.measure(pipeline, seeds[done:count])

        opponents, notes = with_reference(noise, gate, baseline)
        found = analyse(gate, opponents, shipped, counts, train)
        claims = pipeline.metrics(pipeline.folder)
        return replace(found, claims=claims, remarks=remarks + notes + remarks_on(found))


def find_noise(
    revision: str, gate: Gate, scorer: Scorer | None = None
) -> tuple[pd.DataFrame | None, str]:
    """Return the runs in a revision's noise.json, or None and why they can't be used.

    They have to belong to the revision, to have all gated metrics, and to agree with the metrics
    that the revision has committed, which the scorer knows.
    """
    try:
        table = noise_at(revision).table
    except UserError as error:
        return None, str(error)
    source = f"{NOISE} of {revision[:7]}"
    if lacking := gate.metrics.keys() - {name.split("/")[0] for name in table}:
        return None, f"{source} does not have {', '.join(sorted(lacking))}"
    if scorer and scorer.pipeline.seed in table.index:
        own = table.loc[scorer.pipeline.seed, list(gate.rules_by_column(table))]
        for name in own.index.intersection(list(scorer.claims)):
            # training's validation loss is clipped
            if name != "val_loss" and not abs(own[name] - scorer.claims[name]) <= ROUNDING:
                return None, f"{source} contradicts the {name} that is committed there"
    return table, ""


def with_reference(
    noise: pd.DataFrame, gate: Gate, baseline: str
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return the runs to compare with, by name, and a remark where the reference is of no use."""
    if not gate.reference:
        return {BASELINE: noise}, []
    try:
        commit = resolve_revision(gate.reference)
        reference, why_not = find_noise(commit, gate)
        if pipeline_hashes(commit)["data"] != pipeline_hashes(baseline)["data"]:
            reference, why_not = None, f"{NOISE} of {commit[:7]} was measured on other data"
    except UserError as error:
        reference, why_not = None, str(error)
    if reference is None:
        return {BASELINE: noise}, [f"Slow decline is not looked for: {why_not}."]
    same = reference.equals(noise)
    return {BASELINE: noise} | ({} if same else {REFERENCE: reference}), []


def analyse(
    gate: Gate,
    opponents: dict[str, pd.DataFrame],
    shipped: dict[str, float],
    counts: list[int],
    train: Callable[[int, int], pd.DataFrame],
) -> Judgement:
    """Compare the committed run, then more and more further runs, until it is settled.

    `train` returns the runs from one number to another, a row a run.
    """
    plans = {
        name: plan_analyses(runs[[*gate.rules_by_column(runs)]], counts, gate, len(opponents))
        for name, runs in opponents.items()
    }
    runs = pd.DataFrame()
    for number, count in enumerate([0, *counts]):
        runs = pd.concat([runs, train(len(runs), count)]) if count else runs
        table = runs if count else pd.DataFrame([shipped])
        comparisons = {
            name: compare(before, table, gate, plans[name][number])
            for name, before in opponents.items()
        }
        decisions = {name: decide(rows) for name, rows in comparisons.items()}
        # one regression is enough; "no loss" has to hold against all
        against = min(decisions, key=lambda name: ORDER.index(decisions[name][0]))
        finding, decisive = decisions[against]
        if finding != UNDECIDED:
            break
    return Judgement(finding, decisive, against, comparisons, opponents, shipped, runs)


def remarks_on(found: Judgement) -> list[str]:
    """Return what else is remarkable about the committed run and the further ones."""
    remarks, runs = [], found.runs
    if len(runs) and (texts := outliers(found)):
        remarks.append(
            f"The committed run is an outlier among its seeds: {'; '.join(texts)}. Its seed may"
            " have been chosen for that."
        )
    if len(runs) > 1 and (runs == runs.iloc[0]).all(axis=None):
        remarks.append("All further seeds give the same model, so the seed has no effect.")
    rows = {row.metric: row for row in found.comparisons[BASELINE]}
    for name, row in rows.items():
        other = name.removeprefix("val_") if name.startswith("val_") else f"val_{name}"
        if row.is_better and other in rows and rows[other].t > -row.analysis.worse / 2:
            remarks.append(
                f"{name} is better than chance explains and {other} is not. Images of one split may"
                " have been used for training."
            )
    return remarks


def outliers(found: Judgement) -> list[str]:
    """Return the metrics in which the committed run is not like its seeds, in words.

    Not like them is further from their mean than OUTLIER standard deviations, which the baseline's
    seeds have, and their mean has by chance.
    """
    runs, texts = found.runs, []
    for row in [row for row in found.comparisons[BASELINE] if not row.is_class]:
        value, mean = found.shipped[row.metric], runs[row.metric].mean()
        spread = found.opponents[BASELINE][row.metric].std()
        if abs(value - mean) > OUTLIER * spread * np.sqrt(1 + 1 / len(runs)):
            texts.append(f"{row.metric} {value:.4f}, seeds {mean:.4f} ± {spread:.4f}")
    return texts
