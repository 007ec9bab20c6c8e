"""Where experiments run: the interface of a backend. local.py and ray.py are two of them."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

RETRAIN = ["--force", "--downstream", "train"]


@dataclass(frozen=True, eq=False)
class ExperimentSpec:
    """What to run: an experiment's name, and the params that it sets, as {"train.epochs": 3}."""

    name: str
    overrides: dict[str, Any] = field(default_factory=dict)
    retrain: bool = False  # whatever DVC's run cache has

    @property
    def arguments(self) -> list[str]:
        """Those of `dvc exp run`, but for the place."""
        params = [
            f"--set-param={name}={json.dumps(value)}" for name, value in self.overrides.items()
        ]
        return ["--name", self.name, *params, *(RETRAIN if self.retrain else [])]


class Job(ABC):
    """An experiment under way."""

    @abstractmethod
    def poll(self) -> int | None:
        """Bring the log up to date. Return the exit status, None while the job runs."""

    @abstractmethod
    def interrupt(self) -> None:
        """Ask the job and all that it started to end, and to tidy up."""

    @abstractmethod
    def kill(self) -> None:
        """End the job and all that it started, at once."""


class Backend(ABC):
    """A place to run experiments in, while a `with` block lasts."""

    capacity: int  # experiments at a time

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:  # noqa: B027, as not every one has anything
        """Free what was taken. Jobs have ended before."""

    @abstractmethod
    def start(self, spec: ExperimentSpec, log: Path) -> Job:
        """Start an experiment whose output goes into the file `log`."""

    @abstractmethod
    def fetch(self, name: str) -> None:
        """Take a completed experiment over into this repository, in the place of an older one."""

    def discard(self, name: str) -> None:  # noqa: B027, as not every one has anything
        """Free what an experiment took that has ended, however it did."""
