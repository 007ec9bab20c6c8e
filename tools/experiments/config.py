"""Define the schema of experiments.yaml: experiments, groups, sweeps, a cluster's resources."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from fashion.core.errors import UserError
from fashion.core.params import Seed
from fashion.core.strict_yaml import Name, StrictModel, check_config, read_yaml

EXPERIMENTS = Path("experiments.yaml")
PLAIN = "experiments"  # names the tables of the experiments that are in no group

# a name that can be a Git reference (`git help check-ref-format`) and a file
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*(?<!\.lock)\Z")
ExperimentName = Annotated[str, StringConstraints(pattern=NAME)]
# by an experiment's name, the values of the params that it sets, as "train.epochs"
ExperimentMap = dict[ExperimentName, dict[Name, Any]]


class Range(StrictModel):
    """The values that a sweep tries for a param: `choices`, or those from `low` to `high`.

    If `low` and `high` are whole numbers, so are the values between them.
    """

    choices: list[bool | int | float | str] | None = Field(default=None, min_length=1)
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False  # evenly over the logarithms

    @model_validator(mode="after")
    def _has_choices_or_bounds(self) -> Self:
        bounds = (self.low, self.high)
        if self.choices is None and (None in bounds or not self.low < self.high):
            raise ValueError("it needs choices, or low and high with low < high")
        if self.choices is not None and (bounds != (None, None) or self.log):
            raise ValueError("it has choices, so it can't have low, high or log")
        if self.log and self.low <= 0:
            raise ValueError("with log, low must be greater than 0")
        return self


class Sweep(StrictModel):
    metric: Literal["val_accuracy", "val_loss"]
    trials: PositiveInt
    jobs: PositiveInt | None = None  # trials at a time; by default, one per core
    seed: Seed  # of the sampler
    sampler: Literal["tpe", "random"]
    prune: bool  # end trials early that are worse than the median of the others at the same epoch
    fixed: dict[Name, Any] = Field(default_factory=dict)  # params that all trials set
    space: Annotated[dict[Name, Range], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_fixed_or_searched(self) -> Self:
        if both := self.fixed.keys() & self.space.keys():
            raise ValueError(f"{', '.join(sorted(both))}: in fixed and in space")
        return self


class Resources(StrictModel):
    """The resources of an experiment on a Ray cluster."""

    cpus: Annotated[float, Field(gt=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0


class Experiments(StrictModel):
    experiments: ExperimentMap
    groups: dict[ExperimentName, ExperimentMap] = Field(default_factory=dict)
    sweeps: dict[ExperimentName, Sweep] = Field(default_factory=dict)
    ray: Resources = Field(default_factory=Resources)

    @model_validator(mode="after")
    def _tables_differ(self) -> Self:
        """Refuse groups whose tables in metrics/comparisons would have the same name."""
        names = [name + end for name in (PLAIN, *self.groups) for end in ("", "-seeds")]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two groups would share the table {twice[0]}")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        """Refuse one name for two experiments, since DVC keeps one of each name."""
        if name := shared_name([self.experiments, *self.groups.values()]):
            raise ValueError(f"two experiments are called {name}, with other params")
        return self


def shared_name(groups: Iterable[ExperimentMap]) -> str | None:
    """Return a name that two experiments with different params have, or None."""
    known: ExperimentMap = {}
    for name, overrides in (one for group in groups for one in group.items()):
        if known.setdefault(name, overrides) != overrides:
            return name
    return None


def read_experiments() -> Experiments:
    """Read and check experiments.yaml. Raises UserError naming each wrong key."""
    return check_config(read_yaml(EXPERIMENTS), str(EXPERIMENTS), Experiments)


def lookup(configured: dict[str, Any], name: str, kind: str, place: str = str(EXPERIMENTS)) -> Any:
    """Return the experiment, group or sweep of that name. Raises UserError listing all names."""
    if name not in configured:
        names = ", ".join(configured) or "none"
        raise UserError(f"there is no {kind} {name} in {place}. There are: {names}")
    return configured[name]
