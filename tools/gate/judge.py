"""Judge a candidate: rebuild it, score it, and train further seeds until the finding is clear.

What the candidate's own code claims is compared with the scores, and otherwise ignored.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fashion.core.dataset import DATASET
from fashion.core.environment import environment
from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tools.dvc import pipeline_hashes, resolve_revision
from tools.gate.config import Gate, gate_at
from tools.gate.noise import MIN_SEEDS, NOISE, OUTLIER, SEEDS, noise_at
from tools.gate.score import ROUNDING, Scorer, Scores, scorer_of
from tools.gate.sequential import (
    BETTER,
    NO_LOSS,
    REGRESSION,
    UNDECIDED,
    compare,
    decide,
    plan_analyses,
)
from tools.pipeline import Pipeline, clean_clone

BASELINE, REFERENCE = "baseline", "reference"
ORDER = (REGRESSION, UNDECIDED, NO_LOSS)
NOT_REPRODUCED, CONTRADICTS = "cannot be reproduced", "results contradict the model"
NOT_COMPARABLE = "needs a reviewer: not comparable with the baseline"
REVIEWER = (
    "A reviewer has to decide whether the candidate is good enough. Once it is merged, later"
    " changes are compared with it."
)


class CannotJudge(UserError):
    """The candidate can't be judged: a verdict, the reason, findings, a failed command's output."""

    def __init__(self, verdict: str, reason: str, findings: Sequence[str] = (), output: str = ""):
        super().__init__(reason)
        self.verdict, self.reason, self.findings, self.output = verdict, reason, findings, output


@dataclass(frozen=True)
class Judgement:
    """What the scores show, and the numbers behind it."""

    finding: str  # REGRESSION, NO_LOSS or UNDECIDED
    metric: str  # the one that decides, or that is furthest from a decision
    against: str  # BASELINE or REFERENCE
    comparisons: dict[str, pd.DataFrame]  # by BASELINE, and REFERENCE if there is one
    opponents: dict[str, pd.DataFrame]  # the runs compared with, likewise
    committed: pd.Series  # the numbers of the committed run
    runs: pd.DataFrame  # those of the further seeds, a row each
    claims: dict[str, Any] = field(default_factory=dict)  # metrics by the candidate's own code
    remarks: list[str] = field(default_factory=list)


def judge(baseline: str, candidate: str, most: int | None) -> Judgement:
    """Judge a candidate commit by the code and the rules of a baseline commit.

    At most `most` further seeds are trained. Raises CannotJudge or another UserError if no
    judgement is possible.
    """
    gate = gate_at(baseline)
    with scorer_of(baseline) as scorer, clean_clone("candidate", candidate) as pipeline:
        committed, claims, remarks = score_candidate(pipeline, scorer)
        if missing := gate.metrics.keys() - {name.split("/")[0] for name in committed}:
            raise UserError(
                f"gate.yaml of {baseline[:7]} names {', '.join(sorted(missing))}, which the code"
                " there does not measure. Name another baseline: --baseline REV"
            )
        first = scorer.pipeline.seed
        try:
            noise, why_not = noise_at(baseline, gate, scorer), ""
        except UserError as error:
            noise, why_not = pd.DataFrame(index=range(first, first + SEEDS)), str(error)
        seeds = [seed for seed in noise.index if seed != pipeline.seed]
        random.Random(candidate).shuffle(seeds)  # noqa: S311
        counts = sorted({min(count, most or count, len(seeds)) for count in gate.interim_runs})
        if why_not:
            started = time.monotonic()
            noise = scorer.measure(scorer.pipeline, seeds[: max(MIN_SEEDS, counts[-1])])
            took = f"in {time.monotonic() - started:.0f} s"
            remarks += [f"{len(noise)} seeds of the baseline were trained too, {took}: {why_not}."]
        opponents, notes = with_reference(noise, gate, baseline)
        train = partial(scorer.measure, pipeline)
        found = analyse(gate, opponents, pd.Series(committed), [seeds[:n] for n in counts], train)
        return replace(found, claims=claims, remarks=remarks + notes + remarks_on(found))


def score_candidate(
    pipeline: Pipeline, scorer: Scorer
) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    """Rebuild the candidate and score the model that it has committed.

    Returns the numbers by the baseline's code, the metrics by the candidate's own code, and
    remarks. Raises CannotJudge if the rebuild or the claims differ from what is committed, if the
    classes differ, if the model is made with test images, or if the baseline's code can't score it.
    """
    before, now = (
        read_yaml(one.folder / DATASET).get("class_names") for one in (scorer.pipeline, pipeline)
    )
    if now != before:
        classes = [f"baseline: {before}", f"candidate: {now}"]
        raise CannotJudge(NOT_COMPARABLE, f"{REVIEWER} The classes differ.", classes)
    rebuild(pipeline, scorer)
    test, validation, same_validation = scorer.leaks(pipeline)
    if test:
        counts = f"{test:,} of the {len(scorer.test):,} test images"
        reason = f"The candidate trains or validates with {counts}."
        raise CannotJudge("test images are used", reason)
    remarks = []
    if validation:
        remarks.append(
            f"The candidate trains with {validation:,} of the baseline's validation images, which"
            " improves its validation metrics. Only its metrics on the test images count."
        )
    if not same_validation:
        remarks.append(
            "The candidate was validated with other images than the baseline. Its own validation"
            " metrics are not compared with the gate's."
        )
    claims, scores = score_claims(pipeline, scorer)
    if found := contradictions(pipeline, claims, scores, same_validation):
        reason = "The candidate's code writes other values than the baseline's code measures:"
        raise CannotJudge(CONTRADICTS, reason, found)
    return scores.numbers, claims, remarks


def rebuild(pipeline: Pipeline, scorer: Scorer) -> None:
    """Run all stages, without the test images while the model is made; compare the results."""
    try:
        found = replace(pipeline, hidden=scorer.test_files).rebuild()
    except UserError as error:
        reason = (
            "The stages can't run from the raw files. The test images are out of reach while the"
            " model is made."
        )
        raise CannotJudge(NOT_REPRODUCED, reason, output=str(error)) from None
    if found:
        other = environment().get("environment")
        reason = "All stages ran from the raw files, and these files differ from the commit:"
        reason = f"This machine computes with {other}. {reason}" if other else reason
        raise CannotJudge(NOT_REPRODUCED, reason, [f"{path} {how}" for path, how in found.items()])


def score_claims(pipeline: Pipeline, scorer: Scorer) -> tuple[dict[str, Any], Scores]:
    """Return the metrics by the candidate's own code, and the scores by the baseline's code."""
    try:
        claims = pipeline.metrics()
    except UserError as error:
        raise CannotJudge(CONTRADICTS, str(error)) from None
    try:
        return claims, scorer.score(pipeline.model_file)
    except UserError as error:
        reason = (
            f"{REVIEWER} The baseline's code cannot score the candidate's model. Each model's"
            " metrics by its own code, baseline first:"
        )
        names = dict.fromkeys([*scorer.claims, *claims])
        found = [f"{name}: {scorer.claims.get(name)}, {claims.get(name)}" for name in names]
        raise CannotJudge(NOT_COMPARABLE, reason, found, str(error)) from None


def contradictions(
    pipeline: Pipeline, claims: dict[str, Any], scores: Scores, same_validation: bool
) -> list[str]:
    """Return the claimed metrics and tables that differ from the measured ones.

    Validation metrics count if `same_validation`: both were validated with the same images.
    """
    found = [
        f"{name} is {str(claim)[:60]}, measured {scores.metrics[name]}"
        for name, claim in claims.items()
        if name in scores.metrics
        and (same_validation or not name.startswith("val_"))
        and not _agree(claim, scores.metrics[name])
        and not (name == "val_loss" and _agree(claim, scores.clipped_val_loss))
    ]
    for claimed in pipeline.tables(pipeline.stages):
        for measured in scores.tables:
            shared = [column for column in claimed if column in measured]
            if len(shared) > 1 and not claimed[shared].equals(measured[shared]):
                found.append(f"the table of {', '.join(shared)} differs from the measured one")
    return found


def _agree(claim: Any, measured: Any) -> bool:
    """Return whether two metrics, numbers or lists of numbers, are equal up to rounding."""
    try:
        same_shape = np.shape(claim) == np.shape(measured)
        return same_shape and np.allclose(claim, measured, rtol=0, atol=ROUNDING)
    except (TypeError, ValueError):  # not numbers
        return claim == measured


def with_reference(
    noise: pd.DataFrame, gate: Gate, baseline: str
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return the runs to compare with, by name, and a remark if the reference can't be used."""
    if not gate.reference:
        return {BASELINE: noise}, []
    try:
        commit = resolve_revision(gate.reference)
        reference = noise_at(commit, gate)
        if pipeline_hashes(commit)["data"] != pipeline_hashes(baseline)["data"]:
            raise UserError(f"{NOISE} of {commit[:7]} was measured with other data")
    except UserError as error:
        return {BASELINE: noise}, [f"Slow decline is not looked for: {error}."]
    return {BASELINE: noise} | ({} if reference.equals(noise) else {REFERENCE: reference}), []


def analyse(
    gate: Gate,
    opponents: dict[str, pd.DataFrame],
    committed: pd.Series,
    samples: list[list[int]],
    train: Callable[[list[int]], pd.DataFrame],
) -> Judgement:
    """Compare the committed run, then growing samples of seeds, until the finding is clear.

    Each sample begins with the one before it. `train` returns the runs with these seeds, a row
    each.
    """
    sizes = [len(seeds) for seeds in samples]
    plans = {
        name: plan_analyses(runs[[*gate.rules_by_column(runs)]], sizes, gate, len(opponents))
        for name, runs in opponents.items()
    }
    runs = pd.DataFrame()
    for number, seeds in enumerate([[], *samples]):
        runs = pd.concat([runs, train(seeds[len(runs) :])]) if seeds else runs
        table = runs if seeds else committed.to_frame().T
        comparisons = {
            name: compare(before, table, gate, plans[name][number])
            for name, before in opponents.items()
        }
        decisions = {name: decide(rows) for name, rows in comparisons.items()}
        # one regression is enough; "no loss" has to hold against all
        against = min(decisions, key=lambda name: ORDER.index(decisions[name][0]))
        finding, metric = decisions[against]
        if finding != UNDECIDED:
            break
    return Judgement(finding, metric, against, comparisons, opponents, committed, runs)


def remarks_on(found: Judgement) -> list[str]:
    """Return what is unusual about the committed run and the further ones, a sentence each."""
    remarks, runs, rows = [], found.runs, found.comparisons[BASELINE]
    metrics = [name for name in rows.index if "/" not in name]
    if len(runs):
        # the spread is that of the baseline's seeds; the mean of `runs` varies by chance too
        means, spread = runs[metrics].mean(), found.opponents[BASELINE][metrics].std()
        distance = (found.committed[metrics] - means).abs()
        texts = [
            f"{name} {found.committed[name]:.4f}, seeds {means[name]:.4f} ± {spread[name]:.4f}"
            for name in metrics
            if distance[name] > OUTLIER * spread[name] * (1 + 1 / len(runs)) ** 0.5
        ]
        if texts:
            remarks.append(
                f"The committed run is an outlier among its seeds: {'; '.join(texts)}. Its seed may"
                " have been chosen for that."
            )
    if len(runs) > 1 and (runs == runs.iloc[0]).all(axis=None):
        remarks.append("All further seeds give the same model, so the seed has no effect.")
    for name in rows.index[rows["finding"] == BETTER]:
        other = name.removeprefix("val_") if name.startswith("val_") else f"val_{name}"
        if other in rows.index and rows["loss"][other] >= -rows["chance"][other] / 2:
            remarks.append(
                f"{name} is better than chance explains, and {other} is not. Images of one split"
                " may have been used for training."
            )
    return remarks
