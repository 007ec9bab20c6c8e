"""Run experiments in parallel on a backend, print their progress, and clean up."""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from filelock import FileLock, Timeout

from fashion.core.errors import UserError
from fashion.core.files import MIN_FREE_BYTES
from fashion.model.epoch_line import parse_epoch
from tools.experiments.backend import LOGS, Backend, ExperimentSpec, Job

STAGE = re.compile(r"Running stage '(\w+)'")
LAST_LINES = 12  # of a failed experiment's log
STOP_TIMEOUT = 15  # seconds that an interrupted experiment has to tidy up before it is killed
POLL_INTERVAL = 0.1  # seconds


@dataclass(eq=False)
class ExperimentRun:
    """One execution of an experiment: its job, and what its log says so far."""

    spec: ExperimentSpec
    job: Job
    state: str = "running"  # later "completed", "failed" or "pruned"
    epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # a row per epoch, as in the log
    lines: list[str] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)

    def poll(self) -> list[str]:
        """Read the log's new lines and the job's status. Return what happened, in words."""
        status = self.job.poll()  # before the log, so that its last lines are read
        text = self.spec.log.read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")[: None if status is not None else -1]  # the last may be incomplete
        events = [event for line in lines[len(self.lines) :] if (event := self._read(line))]
        self.lines = lines
        if status is not None:
            self.job.close(keep=status == 0)
            self.state = "failed" if status else "completed"
            events.append(f"{self.state} after {time.monotonic() - self.started_at:.0f} s")
        return events

    def _read(self, line: str) -> str | None:
        if match := STAGE.match(line):
            return match[1]
        if not (parsed := parse_epoch(line)):
            return None
        row, self.epochs = parsed
        del self.history[row["epoch"] - 1 :]  # the job has started again on another node
        self.history.append(row)
        accuracy = f"{row['val_accuracy']:.4f}"
        return f"epoch {row['epoch']}/{self.epochs}, validation accuracy {accuracy}"


def run_parallel(
    specs: Iterable[ExperimentSpec],
    backend: Backend,
    jobs: int | None = None,
    should_prune: Callable[[ExperimentRun], bool] = lambda run: False,
) -> None:
    """Run experiments, `jobs` at a time; by default, as many as the backend has room for.

    An iterator is asked for the next experiment when there is room for it. `should_prune` is called
    after the events of a run, and returns whether to end it. Raises UserError if experiments
    failed, after all have ended. However this function ends, no experiment runs on.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    upcoming, runs = iter(specs), []
    with backend:
        try:
            while True:
                active = [run for run in runs if run.state == "running"]
                has_room = len(active) < (jobs or backend.capacity)
                if has_room and (spec := next(upcoming, None)):
                    runs.append(ExperimentRun(spec, backend.start(spec)))
                elif not active:
                    break
                for run in active:
                    follow(run, should_prune)
                time.sleep(POLL_INTERVAL)
        finally:
            stop([run.job for run in runs if run.state == "running"])
    if failed := [describe_failure(run) for run in runs if run.state == "failed"]:
        raise UserError("\n".join(failed))


def follow(run: ExperimentRun, should_prune: Callable[[ExperimentRun], bool]) -> None:
    """Print what has happened in a run, and end it if it is to be pruned."""
    events = run.poll()
    if events and should_prune(run):
        stop([run.job])
        run.state = "pruned"
        events.append(run.state)
    for event in events:
        print(f"{run.spec.name}: {event}", flush=True)


def stop(jobs: list[Job]) -> None:
    """End jobs with all their processes.

    An interrupt lets DVC tidy up. After STOP_TIMEOUT, or at another Ctrl-C, jobs are killed.
    """
    try:
        for job in jobs:
            if job.poll() is None:
                job.end(at_once=False)
        deadline = time.monotonic() + STOP_TIMEOUT
        while any(job.poll() is None for job in jobs) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
    finally:
        for job in jobs:
            if job.poll() is None:
                job.end(at_once=True)
            job.close(keep=False)


def describe_failure(run: ExperimentRun) -> str:
    """Return a message with a failed run's last lines and the path of its log."""
    last = [f"\n  | {line}" for line in run.lines[-LAST_LINES:] if line.strip()]
    message = f"{run.spec.name} failed. Its last lines:{''.join(last)}"
    message += f"\n  The whole log: {run.spec.log}"
    if shutil.disk_usage(LOGS).free < MIN_FREE_BYTES:
        message += "\n  The disk is full: make room, then run it again."
    return message


@contextmanager
def experiments_lock() -> Iterator[None]:
    """Raise UserError if another process of this project runs experiments."""
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LOGS.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise UserError(
            "experiments of this project are already running. Wait for them to end, or stop them"
        ) from None
