"""gate.yaml: which metrics are judged, which losses must be found, and how often it may err."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from fashion.strict_yaml import Name, StrictModel, read_config

GATE = Path("gate.yaml")


class MetricRule(StrictModel):
    better: Literal["higher", "lower"]
    # a loss that must be found; smaller ones are let through where they can't be told from none
    margin: Annotated[FiniteFloat, Field(gt=0)]
    floor: FiniteFloat | None = None  # worse than this is a regression, whatever the baseline


class Gate(StrictModel):
    # probability that an unchanged model is called a regression
    false_alarms: Annotated[float, Field(ge=1e-4, le=0.1)]
    # probability that a model which is worse by a margin is let through
    missed: Annotated[float, Field(ge=1e-3, le=0.5)]
    # numbers of runs, with a seed each, after which it is judged
    looks: Annotated[list[Annotated[int, Field(ge=1, le=100)]], Field(min_length=1)]
    # by name, as in metrics/train.json and metrics/test.json
    metrics: Annotated[dict[Name, MetricRule], Field(min_length=1)]

    @model_validator(mode="after")
    def _looks_grow(self) -> "Gate":
        if self.looks != sorted(set(self.looks)):
            raise ValueError("looks: each must be larger than the one before")
        return self


def read_gate(path: Path = GATE) -> Gate:
    """Read and check gate.yaml. Raises UserError naming each wrong key."""
    return read_config(path, Gate)
