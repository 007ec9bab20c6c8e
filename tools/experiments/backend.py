"""Where experiments run: the interface of a backend. local.py and ray.py have one each."""

import json
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOGS = Path(".dvc/tmp/experiments")
RETRAIN = ["--force", "--downstream", "train"]


@dataclass(frozen=True, eq=False)
class ExperimentSpec:
    """What to run: an experiment's name, and the params that it sets, as {"train.epochs": 3}."""

    name: str
    overrides: dict[str, Any] = field(default_factory=dict)
    retrain: bool = False  # even if DVC's run cache has the result
    message: str = "Experiment"  # of its commit

    @property
    def log(self) -> Path:
        """Return the file of its output."""
        return LOGS / f"{self.name}.log"

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of `dvc exp run`."""
        params = [f"-S{name}={json.dumps(value)}" for name, value in self.overrides.items()]
        retrain = RETRAIN if self.retrain else []
        return ["--name", self.name, "--message", self.message, *params, *retrain]


class Job(ABC):
    """A started experiment."""

    @abstractmethod
    def poll(self) -> int | None:
        """Bring the log up to date. Return the exit status, or None while the job runs."""

    @abstractmethod
    def end(self, at_once: bool) -> None:
        """End the job and all its processes: at once, or so that they tidy up."""

    @abstractmethod
    def close(self, keep: bool) -> None:
        """Free what the ended job took. If `keep`, fetch its experiment before."""


class Backend(AbstractContextManager):
    """A place to run experiments in, while a `with` block lasts. All jobs end before the block."""

    commit: str  # that DVC keeps the experiments with
    workspace: str  # a commit of what they run with: `commit` and the uncommitted changes
    capacity: int  # experiments at a time

    def __exit__(self, *exception: object) -> None:
        """Free what the block took."""

    @abstractmethod
    def start(self, spec: ExperimentSpec) -> Job:
        """Start an experiment; its output goes into its log."""
