"""Read gate.yaml: which metrics are judged, which losses must be found, the error rates."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from fashion.core.errors import UserError
from fashion.core.strict_yaml import Name, StrictModel, check_config
from tools.git import yaml_at

GATE = Path("gate.yaml")


class MetricRule(StrictModel):
    better: Literal["higher", "lower"]
    margin: Annotated[FiniteFloat, Field(gt=0)]  # a loss that must be found
    floor: FiniteFloat | None = None  # worse is a regression, whatever the baseline has

    @property
    def sign(self) -> int:
        """Return 1 where larger values are worse, else -1."""
        return 1 if self.better == "lower" else -1


class Gate(StrictModel):
    # the probability that an unchanged model is called a regression
    false_alarms: Annotated[float, Field(ge=1e-4, le=0.1)]
    # the probability that a model which is worse by a margin passes as "no loss"
    missed: Annotated[float, Field(ge=1e-3, le=0.5)]
    # the numbers of further seeds after which the test may stop
    interim_runs: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=1)]
    # a revision with a metrics/noise.json, to find slow decline
    reference: Name | None = None
    # by name; "class_f1" stands for the F1 of every class
    metrics: Annotated[dict[Name, MetricRule], Field(min_length=1)]

    @model_validator(mode="after")
    def _interim_runs_grow(self) -> "Gate":
        if self.interim_runs != sorted(set(self.interim_runs)):
            raise ValueError("interim_runs: each must be larger than the one before")
        return self

    def rules_by_column(self, columns: Iterable[str]) -> dict[str, MetricRule]:
        """Return the rule of each gated column; "class_f1/Bag" has the rule of class_f1.

        Raises UserError if a gated metric has no column.
        """
        names = {column: column.split("/")[0] for column in columns}
        if missing := self.metrics.keys() - names.values():
            listed = ", ".join(sorted(missing))
            raise UserError(f"{GATE} names {listed}, which is not among the measured metrics")
        return {one: self.metrics[name] for one, name in names.items() if name in self.metrics}


def gate_at(revision: str) -> Gate:
    """Return the checked gate.yaml of a revision. Raises UserError naming each wrong key."""
    return check_config(yaml_at(revision, GATE), f"{GATE} of {revision[:7]}", Gate)
