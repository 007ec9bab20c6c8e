"""Judge a candidate: rebuild it, score it, and train further seeds until the finding is clear.

What the candidate's own code claims is compared with the scores, and otherwise ignored. Runs are
tables of numbers with a row per run, whose seed is the index.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fashion.core.errors import UserError
from tools.dvc import resolve_revision
from tools.gate.config import Gate, gate_at
from tools.gate.noise import MIN_SEEDS, NOISE, OUTLIER, SEEDS, noise_at
from tools.gate.score import TOLERANCE, Scorer, Scores, data_facts, scorer_of
from tools.gate.sequential import BETTER, UNDECIDED, compare, decide, plan_analyses
from tools.pipeline import Pipeline, changed_pins, clean_clone

BASELINE, REFERENCE = "baseline", "reference"
NOT_REPRODUCED, CONTRADICTS = "cannot be reproduced", "results contradict the model"
NOT_COMPARABLE = "needs a reviewer: not comparable with the baseline"
REVIEWER = (
    "A reviewer has to decide whether the candidate is good enough. Once it is merged, later"
    " changes are compared with it."
)


class CannotJudge(UserError):
    """The candidate can't be judged: a verdict, the reason, and maybe a list or an error."""


@dataclass(frozen=True)
class Judgement:
    """The numbers that decide."""

    rows: pd.DataFrame  # of `compare`, by BASELINE or REFERENCE, then by metric
    opponents: dict[str, pd.DataFrame]  # the runs compared with, by BASELINE or REFERENCE
    committed: pd.DataFrame  # the committed run
    runs: pd.DataFrame  # those of the further seeds
    claims: dict[str, Any]  # metrics by the candidate's own code
    remarks: list[str]


def judge(baseline: str, candidate: str, most: int | None) -> Judgement:
    """Judge a candidate commit by the code and the rules of a baseline commit.

    At most `most` further seeds are trained. Raises CannotJudge or another UserError if no
    judgement is possible.
    """
    gate, pins = gate_at(baseline), changed_pins(baseline, candidate)
    # with its own pins, the baseline's code would refuse the packages that are installed
    with scorer_of(baseline, pins) as scorer, clean_clone("candidate", candidate) as pipeline:
        rebuild(pipeline, scorer)
        committed, claims, remarks = score_committed(pipeline, scorer)
        if pins:
            remarks += [f"The baseline's code ran with the candidate's {', '.join(pins)}."]
        gate.rules_by_column(committed)
        noise, why_not = read_noise(baseline, gate, scorer)
        seeds = [seed for seed in noise.index if seed != pipeline.seed]
        random.Random(candidate).shuffle(seeds)  # noqa: S311
        counts = sorted({min(count, most or count, len(seeds)) for count in gate.interim_runs})
        if why_not:
            started = time.monotonic()
            noise = scorer.measure(scorer.pipeline, seeds[: max(MIN_SEEDS, counts[-1])])
            took = f"in {time.monotonic() - started:.0f} s"
            remarks += [f"{len(noise)} seeds of the baseline were trained too, {took}: {why_not}."]
        opponents = {BASELINE: noise}
        try:
            opponents |= read_reference(baseline, gate, noise)
        except UserError as error:
            remarks += [f"Slow decline is not looked for: {error}."]
        train = partial(scorer.measure, pipeline)
        samples = [seeds[:count] for count in counts]
        rows, runs = analyse(gate, opponents, committed, samples, train)
    remarks += remarks_on(rows.loc[BASELINE], noise, committed, runs)
    return Judgement(rows, opponents, committed, runs, claims, remarks)


def rebuild(pipeline: Pipeline, scorer: Scorer) -> None:
    """Run all stages, without the test images while the model is made.

    Raises CannotJudge if the results are not those committed, or the classes not the baseline's.
    """
    before, now = (data_facts(one).class_names for one in (scorer.pipeline, pipeline))
    if now != before:
        classes = [f"baseline: {before}", f"candidate: {now}"]
        raise CannotJudge(NOT_COMPARABLE, f"{REVIEWER} The classes differ.", classes)
    try:
        found = replace(pipeline, hidden=scorer.test_files).rebuild()
    except UserError as error:
        reason = (
            "The stages can't run from the raw files. The test images are out of reach while the"
            " model is made."
        )
        raise CannotJudge(NOT_REPRODUCED, reason, error) from None
    if found:
        reason = "All stages ran from the raw files, and these files differ from the commit:"
        if other := pipeline.metrics().get("environment"):
            note = f"The stages computed with {other}, which gives other bytes elsewhere."
            reason = f"{note} {reason}"
        raise CannotJudge(NOT_REPRODUCED, reason, [f"{path} {how}" for path, how in found.items()])


def score_committed(
    pipeline: Pipeline, scorer: Scorer
) -> tuple[pd.DataFrame, dict[str, Any], list[str]]:
    """Score the model of a rebuilt candidate.

    Returns the run by the baseline's code, the metrics by the candidate's own code, and remarks.
    Raises CannotJudge if these contradict each other, if the model is made with test images, or if
    the baseline's code can't score it.
    """
    same, remarks = check_images(pipeline, scorer)
    claims = pipeline.metrics()
    try:
        scores = scorer.score(pipeline.model_file)
    except UserError as error:
        reason = (
            f"{REVIEWER} The baseline's code cannot score the candidate's model. Each model's"
            " metrics by its own code, baseline first:"
        )
        names = dict.fromkeys([*scorer.claims, *claims])
        found = [f"{name}: {scorer.claims.get(name)}, {claims.get(name)}" for name in names]
        raise CannotJudge(NOT_COMPARABLE, reason, found, error) from None
    if found := contradictions(pipeline, claims, scores, same):
        reason = "The candidate's code writes other values than the baseline's code measures:"
        raise CannotJudge(CONTRADICTS, reason, found)
    return pd.DataFrame(scores.numbers, index=[pipeline.seed]), claims, remarks


def check_images(pipeline: Pipeline, scorer: Scorer) -> tuple[dict[str, bool], list[str]]:
    """Return whether the candidate has the baseline's validation and test images, and remarks.

    Raises CannotJudge if it learns from test images.
    """
    test, validation, same_validation = scorer.leaks(pipeline)
    ours, theirs = (
        [raw.sha256 for raw in data_facts(one).raw_tests] for one in (pipeline, scorer.pipeline)
    )
    same = {"validation": same_validation, "test": ours == theirs}
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
    remarks += [
        f"The candidate has other {split} images or labels than the baseline. Its own {split}"
        " metrics are not compared with the gate's."
        for split in same
        if not same[split]
    ]
    return same, remarks


def contradictions(
    pipeline: Pipeline, claims: dict[str, Any], scores: Scores, same: Mapping[str, bool]
) -> list[str]:
    """Return the claimed metrics and tables that differ from the measured ones.

    `same` says for "validation" and "test" whether both were computed from the same images.
    """
    found = [
        f"{name} is {str(claims[name])[:60]}, measured {scores.metrics[name]}"
        for name in differing(claims, scores.metrics)
        if same["validation" if name.startswith("val_") else "test"]
        and not (name == "val_loss" and _agree(claims[name], scores.clipped_val_loss))
    ]
    for claimed in pipeline.tables(pipeline.stages) if same["test"] else []:
        for measured in scores.tables:
            shared = [column for column in claimed if column in measured]
            if len(shared) > 1 and not _tables_agree(claimed[shared], measured[shared]):
                found.append(f"the table of {', '.join(shared)} differs from the measured one")
    return found


def differing(claims: Mapping[str, Any], measured: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics that have other values in both mappings."""
    shared = [name for name in claims if name in measured]
    return [name for name in shared if not _agree(claims[name], measured[name])]


def _agree(claim: Any, measured: Any) -> bool:
    """Return whether two metrics, numbers or lists of numbers, are equal within TOLERANCE."""
    try:
        return np.allclose(claim, measured, rtol=0, atol=TOLERANCE)
    except (TypeError, ValueError):  # not numbers, or not as many
        return claim == measured


def _tables_agree(claimed: pd.DataFrame, measured: pd.DataFrame) -> bool:
    """Return whether two tables of texts are equal, numbers within TOLERANCE."""
    if len(claimed) != len(measured):
        return False
    differ = (claimed != measured).to_numpy()
    pairs = [one.apply(pd.to_numeric, errors="coerce") for one in (claimed, measured)]
    return _agree(*(one.to_numpy(float)[differ] for one in pairs))  # NaN, for words, never agrees


def read_noise(baseline: str, gate: Gate, scorer: Scorer) -> tuple[pd.DataFrame, str]:
    """Return the runs in the baseline's noise.json, and "".

    If they can't be used, return the seeds that can be trained instead, and the reason.
    """
    first = scorer.pipeline.seed
    try:
        noise = noise_at(baseline)
        gate.rules_by_column(noise)
        for run in noise[noise.index == first].to_dict("records"):
            # training's validation loss is clipped
            if wrong := [name for name in differing(scorer.claims, run) if name != "val_loss"]:
                raise UserError(f"{NOISE} contradicts the {wrong[0]} that is committed there")
        return noise, ""
    except UserError as error:
        return pd.DataFrame(index=range(first, first + SEEDS)), str(error)


def read_reference(baseline: str, gate: Gate, noise: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the reference's runs, by name, if there is a reference with other runs than `noise`.

    Raises UserError if they can't be used.
    """
    if not gate.reference:
        return {}
    reference = noise_at(resolve_revision(gate.reference), data=baseline)
    gate.rules_by_column(reference)
    return {} if reference.equals(noise) else {REFERENCE: reference}


def analyse(
    gate: Gate,
    opponents: dict[str, pd.DataFrame],
    committed: pd.DataFrame,
    samples: list[list[int]],
    train: Callable[[list[int]], pd.DataFrame],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the committed run, then growing samples of seeds, until the finding is clear.

    Each sample begins with the one before it. `train` returns the runs with these seeds. Returns
    the last comparison, whose rows are those of all opponents, and the runs of further seeds.
    """
    sizes = [len(seeds) for seeds in samples]
    plans = {
        name: plan_analyses(before, sizes, gate, len(opponents))
        for name, before in opponents.items()
    }
    runs = committed[:0]
    for number, seeds in enumerate([[], *samples]):
        runs = pd.concat([runs, train(seeds[len(runs) :])]) if seeds else runs
        now = runs if seeds else committed
        comparisons = {
            name: compare(before, now, gate, plans[name][number])
            for name, before in opponents.items()
        }
        rows = pd.concat(comparisons)
        if decide(rows)[0] != UNDECIDED:
            break
    return rows, runs


def remarks_on(
    rows: pd.DataFrame, noise: pd.DataFrame, committed: pd.DataFrame, runs: pd.DataFrame
) -> list[str]:
    """Return what is unusual about the committed run and the further ones, a sentence each."""
    remarks, metrics = [], [name for name in rows.index if "/" not in name]
    if len(runs):
        # the spread is that of the baseline's seeds; the mean of `runs` varies by chance too
        own, means, spread = committed.iloc[0], runs.mean(), noise.std()
        limits = OUTLIER * spread * (1 + 1 / len(runs)) ** 0.5
        texts = [
            f"{name} {own[name]:.4f}, seeds {means[name]:.4f} ± {spread[name]:.4f}"
            for name in metrics
            if abs(own[name] - means[name]) > limits[name]
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
