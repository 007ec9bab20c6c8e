"""gate.yaml: which metrics are judged, and what is taken for noise."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fashion.strict_yaml import Name, StrictModel, read_config

GATE = Path("gate.yaml")


class MetricRule(StrictModel):
    better: Literal["higher", "lower"]
    floor: float | None = None  # worse than this is a regression, whatever the baseline


class Gate(StrictModel):
    # how many standard deviations of the difference are taken for noise
    sigmas: Annotated[float, Field(gt=0)]
    # by name, as `dvc metrics show` has them
    metrics: Annotated[dict[Name, MetricRule], Field(min_length=1)]


def read_gate(path: Path = GATE) -> Gate:
    """Read and check gate.yaml. Raises UserError naming each wrong key."""
    return read_config(path, Gate)
