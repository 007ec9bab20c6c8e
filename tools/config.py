"""The tools' own configuration: experiments.yaml and gate.yaml; and other values for params."""

from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, StringConstraints, model_validator
from ruamel.yaml import YAML

from fashion.errors import UserError
from fashion.files import written_whole
from fashion.strict_yaml import Name, StrictModel, check_config, read_config
from stages.params import PARAMS, Params, Seed

EXPERIMENTS, GATE = Path("experiments.yaml"), Path("gate.yaml")

ExperimentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# by name: which params it sets, "train.epochs", to what
ExperimentMap = dict[ExperimentName, dict[Name, Any]]


class MetricRule(StrictModel):
    better: Literal["higher", "lower"]
    floor: float | None = None  # worse than this is a regression, whatever the baseline
    ceiling: float | None = None


class Gate(StrictModel):
    # how many standard deviations of the difference are taken for noise
    sigmas: Annotated[float, Field(gt=0)]
    # by name, as `dvc metrics show` has them
    metrics: Annotated[dict[Name, MetricRule], Field(min_length=1)]


class Range(StrictModel):
    """The values that a sweep tries for a param.

    Those of `choices`, or all from `low` to `high`; whole numbers where both are.
    """

    choices: list[bool | int | float | str] | None = Field(default=None, min_length=1)
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False  # evenly over the logarithms

    @model_validator(mode="after")
    def is_one_of_both(self) -> Self:
        bounds = (self.low, self.high)
        if self.choices is None and (None in bounds or not self.low < self.high):
            raise ValueError("it needs choices, or a low and a higher high")
        if self.choices is not None and (bounds != (None, None) or self.log):
            raise ValueError("it has choices, so it can't have low, high or log")
        if self.log and self.low <= 0:
            raise ValueError("with log, low must be greater than 0")
        return self


class Sweep(StrictModel):
    metric: Literal["val_accuracy", "val_loss"]
    trials: PositiveInt
    jobs: PositiveInt | None = None  # trials at a time; by default as many as there are cores
    seed: Seed  # of what is proposed
    sampler: Literal["tpe", "random"]
    prune: bool  # end a trial early that is worse than the median of the others at the same epoch
    fixed: dict[Name, Any] = Field(default_factory=dict)  # params that all trials set
    space: Annotated[dict[Name, Range], Field(min_length=1)]


class Resources(StrictModel):
    """What a trial on a Ray cluster is given."""

    cpus: Annotated[float, Field(gt=0)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0


class Experiments(StrictModel):
    experiments: ExperimentMap
    groups: dict[ExperimentName, ExperimentMap] = Field(default_factory=dict)
    sweeps: dict[ExperimentName, Sweep] = Field(default_factory=dict)
    ray: Resources = Field(default_factory=Resources)


def read_experiments(path: Path = EXPERIMENTS) -> Experiments:
    """Read and check experiments.yaml. Raises UserError naming each wrong key."""
    return read_config(path, Experiments)


def read_gate(path: Path = GATE) -> Gate:
    """Read and check gate.yaml. Raises UserError naming each wrong key."""
    return read_config(path, Gate)


def with_overrides(values: dict, overrides: dict[str, Any], source: str) -> dict:
    """Return the content of a params file with other values for some params, checked.

    Params are named like "train.epochs"; `source` names in errors where the values come from.
    """
    changed = deepcopy(values)
    for name, value in overrides.items():
        *sections, key = name.split(".")
        section = changed
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section:
            raise UserError(
                f"{source}: {name} is not a known param. Check its spelling; stages/params.py lists"
                " all"
            )
        section[key] = value
    check_config(changed, source, Params)
    return changed


def write_params(overrides: dict[str, Any]) -> None:
    """Set params in the params file, and leave the rest of it as it is, comments and all."""
    yaml = YAML()
    yaml.width = 1000
    values = yaml.load(PARAMS)
    for name, value in overrides.items():
        *sections, key = name.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[key] = value
    with written_whole(PARAMS) as part:
        yaml.dump(values, part)
