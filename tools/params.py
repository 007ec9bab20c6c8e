"""The sections of params.yaml that are for the tools, and other values for the pipeline's."""

from copy import deepcopy
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from fashion.errors import UserError
from stages.params import PARAMS, Name, Params, Section, check_params, read_values

ExperimentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class MetricRule(Section):
    better: Literal["higher", "lower"]
    floor: float | None = None  # worse than these is a regression, whatever the baseline
    ceiling: float | None = None


class Check(Section):
    sigmas: Annotated[float, Field(gt=0)]  # how many standard deviations of the difference are taken for noise
    metrics: Annotated[dict[Name, MetricRule], Field(min_length=1)]  # by name, as `dvc metrics show` has them


Experiments = dict[ExperimentName, dict[Name, Any]]  # by name: which params it sets, "train.epochs", to what


class ToolParams(Params):
    experiments: Experiments
    experiment_groups: dict[ExperimentName, Experiments] = Field(default_factory=dict)
    check: Check


def read_tool_params() -> ToolParams:
    """The whole params file, checked. Raises UserError naming each wrong param, what it is, and what was expected."""
    return check_params(read_values(), str(PARAMS), ToolParams)


def with_overrides(values: dict, overrides: dict[str, Any], source: str) -> dict:
    """The content of a params file with other values for some params, named like "train.epochs"; checked."""
    changed = deepcopy(values)
    for name, value in overrides.items():
        *sections, key = name.split(".")
        section = changed
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section:
            raise UserError(f"{source}: {name} is not a known param. Check its spelling; stages/params.py lists all")
        section[key] = value
    check_params(changed, source, ToolParams)
    return changed
