"""Define the interface of places where experiments run. local.py and ray.py implement it."""

import json
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOGS = Path(".dvc/tmp/experiments")


@dataclass(frozen=True, eq=False)
class ExperimentSpec:
    """What to run: an experiment's name and the params that it sets, like {"train.epochs": 3}."""

    name: str
    overrides: dict[str, Any] = field(default_factory=dict)
    message: str = "Experiment"  # of the experiment's commit

    @property
    def log(self) -> Path:
        """Return the path of the file that takes the output."""
        return LOGS / f"{self.name}.log"

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of `dvc exp run`."""
        params = [f"-S{name}={json.dumps(value)}" for name, value in self.overrides.items()]
        return ["--name", self.name, "--message", self.message, *params]


class Job(ABC):
    """A started experiment."""

    @abstractmethod
    def poll(self) -> int | None:
        """Bring the log up to date. Return the exit status, or None while the job runs."""

    @abstractmethod
    def end(self, at_once: bool) -> None:
        """End the job with all its processes; unless `at_once`, they have time to tidy up."""

    @abstractmethod
    def close(self, keep: bool) -> None:
        """Free what the ended job used. If `keep`, fetch its experiment first."""


class Backend(AbstractContextManager):
    """A place where experiments run during a `with` block. All jobs end before the block does."""

    commit: str  # with which DVC keeps the experiments
    workspace: str  # the commit that they run: `commit`, or one with the uncommitted changes
    capacity: int  # how many experiments can run at a time

    def __exit__(self, *exception: object) -> None:
        """Free what the block used."""

    @abstractmethod
    def start(self, spec: ExperimentSpec) -> Job:
        """Start an experiment, with its output in its log."""
