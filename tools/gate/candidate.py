"""The candidate: what Git would commit, rebuilt from the raw files and scored by the baseline.

Nothing that its own code claims is taken on trust: the claims are compared with the scores.
"""

from functools import partial
from typing import Any

import numpy as np

from fashion.core.dataset import DATASET
from fashion.core.environment import environment
from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tools.gate.score import ROUNDING, Scorer, Scores
from tools.pipeline import Pipeline
from tools.process import CommandFailed

NOT_REPRODUCED, CONTRADICTS = "cannot be reproduced", "results contradict the model"


class CannotJudge(UserError):
    """The candidate can't be judged: the verdict in words, what was found, and a command's output.

    `heading` introduces the findings `lines`; `output` has the last lines of a failed command.
    """

    def __init__(
        self, verdict: str, heading: str, lines: list[str], output: list[str] | None = None
    ):
        super().__init__("; ".join([heading, *lines]))
        self.verdict, self.heading, self.lines, self.output = verdict, heading, lines, output or []


def rebuild(pipeline: Pipeline, scorer: Scorer) -> tuple[list[str], bool]:
    """Run all stages of the candidate from the raw files, the test images out of its model's reach.

    Returns remarks, and whether it was validated on the baseline's images. Raises CannotJudge where
    the result is not what is committed, where the classes are others, or where test images are
    among the images that it learns from.
    """
    require_same_classes(pipeline, scorer)
    try:
        pipeline.run(pipeline.stages, hidden=partial(scorer.held_out.to_hide, pipeline))
    except UserError as error:
        is_command = isinstance(error, CommandFailed)
        heading = error.message if is_command else str(error)
        heading += ". The test images are out of reach while the model is made."
        output = error.lines if is_command else []
        raise CannotJudge(NOT_REPRODUCED, heading, [], output) from None
    if found := pipeline.differences():
        heading = "All stages ran again from the raw files, and this is not what is committed:"
        if other := environment().get("environment"):
            heading = f"This machine computes with {other}. {heading}"
        raise CannotJudge(NOT_REPRODUCED, heading, [f"{path} {how}" for path, how in found.items()])
    test, validation, same_validation = scorer.held_out.leaks(pipeline)
    if test:
        line = f"{test:,} of the {len(scorer.held_out.test):,} test images"
        heading = "Among the images that the candidate trains or validates with are:"
        raise CannotJudge("test images are used", heading, [line])
    remarks = []
    if validation:
        remarks.append(
            f"The candidate trains with {validation:,} of the baseline's validation images, which"
            " improves its validation metrics. Only those on the test images count."
        )
    if not same_validation:
        remarks.append(
            "The candidate was validated on other images than the baseline. Its own validation"
            " metrics are not compared with the gate's."
        )
    return remarks, same_validation


def require_same_classes(pipeline: Pipeline, scorer: Scorer) -> None:
    """Raise CannotJudge where the candidate's dataset.yaml has other classes."""
    before, now = (
        read_yaml(one.folder / DATASET).get("class_names") for one in (scorer.pipeline, pipeline)
    )
    if now != before:
        lines = [f"baseline: {before}", f"candidate: {now}"]
        raise needs_reviewer("The classes differ.", lines)


def needs_reviewer(heading: str, lines: list[str], output: list[str] | None = None) -> CannotJudge:
    what_to_do = (
        "A reviewer has to decide whether the candidate is good enough. Once it is merged, it is"
        " the baseline of later changes."
    )
    verdict = "needs a reviewer: the yardstick itself changes"
    return CannotJudge(verdict, f"{what_to_do} {heading}", lines, output)


def score_shipped(pipeline: Pipeline, scorer: Scorer, same_validation: bool) -> Scores:
    """Score the committed model by the baseline's code, and compare what the candidate claims.

    `same_validation` says whether it was validated on the baseline's images. Raises CannotJudge
    where the baseline can't score it, or where a claim contradicts the score.
    """
    try:
        claims = pipeline.metrics(pipeline.folder)
    except UserError as error:
        raise CannotJudge(CONTRADICTS, str(error), []) from None
    try:
        scores = scorer.score(pipeline.folder / pipeline.model)
    except UserError as error:
        names = dict.fromkeys([*scorer.claims, *claims])
        lines = [f"{name}: {scorer.claims.get(name)}, {claims.get(name)}" for name in names]
        heading = (
            "The baseline's code cannot score the candidate's model. Each model by its own code,"
            " baseline and candidate:"
        )
        output = error.lines if isinstance(error, CommandFailed) else [str(error)]
        raise needs_reviewer(heading, lines, output) from None
    if found := contradictions(pipeline, claims, scores, same_validation):
        heading = "What the candidate's code writes is not what the baseline's code measures:"
        raise CannotJudge(CONTRADICTS, heading, found)
    return scores


def contradictions(
    pipeline: Pipeline, claims: dict[str, Any], scores: Scores, same_validation: bool
) -> list[str]:
    """Return which metrics and tables of the candidate's own code are not those measured."""
    found = [
        f"{name} is {str(claim)[:60]}, measured {scores.metrics[name]}"
        for name, claim in claims.items()
        if name in scores.metrics
        and (same_validation or not name.startswith("val_"))
        and not _agree(claim, name, scores)
    ]
    for claimed in pipeline.tables(pipeline.folder):
        for measured in scores.tables:
            shared = [column for column in claimed if column in measured]
            if len(shared) > 1 and not claimed[shared].equals(measured[shared]):
                found.append(f"the table of {', '.join(shared)} is not the one measured")
    return found


def _agree(claim: Any, name: str, scores: Scores) -> bool:
    """Whether a claimed metric, a number or a list of numbers, is what was measured."""
    measured = scores.metrics[name]
    accepted = [measured, scores.clipped_val_loss if name == "val_loss" else measured]
    try:
        return np.shape(claim) == np.shape(measured) and any(
            np.allclose(claim, value, rtol=0, atol=ROUNDING) for value in accepted
        )
    except (TypeError, ValueError):  # not numbers
        return claim == measured
