"""The state of an experiment while it runs, read from its log."""

import re
import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TextIO

from fashion.model.epoch_line import parse_epoch
from tools.experiments.backend import Backend, ExperimentSpec, Job

STAGE = re.compile(r"Running stage '(\w+)'")
LOGS = Path(".dvc/tmp/experiments")


class State(Enum):
    """Of an experiment; the value is what people read."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PRUNED = "pruned"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL_STATES


TERMINAL_STATES = {State.COMPLETED, State.FAILED, State.PRUNED}


@dataclass(eq=False)
class ExperimentRun:
    """An experiment from its start to its end: its job, and what its log has told so far."""

    spec: ExperimentSpec
    state: State = State.PENDING
    backend: Backend | None = None
    job: Job | None = None
    log: TextIO | None = None
    stage: str = "starting"  # of DVC
    epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # a row an epoch, as in its log
    started_at: float = 0.0
    trained_since: float = 0.0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=12))

    @property
    def log_path(self) -> Path:
        return LOGS / f"{self.spec.name}.log"

    @property
    def epoch(self) -> int:
        """The last one that has ended; 0 before the first."""
        return len(self.history)

    def start(self, backend: Backend) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self.backend, self.job = backend, backend.start(self.spec, self.log_path)
        self.log = self.log_path.open(encoding="utf-8", errors="replace")
        self.state, self.started_at = State.RUNNING, time.monotonic()

    def poll_log(self) -> list[str]:
        """Read what is new in the log, and note the end. Return what has happened, in words."""
        status = self.job.poll()  # asked first, so that the last lines are read
        events = [event for line in self.log if (event := self._read(line.rstrip("\n")))]
        if status is not None:
            self._end(State.FAILED if status else State.COMPLETED)
            events.append(f"{self.state.value} after {time.monotonic() - self.started_at:.0f} s")
        return events

    def _read(self, line: str) -> str | None:
        self.last_lines.append(line)
        if match := STAGE.match(line):
            self.stage, self.trained_since = match[1], time.monotonic()
            return self.stage
        if not (parsed := parse_epoch(line)):
            return None
        row, self.epochs = parsed
        del self.history[row["epoch"] - 1 :]  # begun again, on another node
        self.history.append(row)
        accuracy = f"{row['val_accuracy']:.4f}"
        return f"epoch {row['epoch']}/{self.epochs}, validation accuracy {accuracy}"

    def _end(self, state: State) -> None:
        self.log.close()  # a thousand of them would be too many
        if state is State.COMPLETED:
            self.backend.fetch(self.spec.name)
        self.state = state

    @property
    def time_left(self) -> str:
        """Minutes and seconds of training, estimated from the epochs so far."""
        if self.stage != "train" or not self.history or self.state is not State.RUNNING:
            return ""
        an_epoch = (time.monotonic() - self.trained_since) / self.epoch
        seconds = an_epoch * (self.epochs - self.epoch)
        return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"
