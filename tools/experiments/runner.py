"""Run experiments in parallel on a backend, watch them, and clean up after them."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fashion.core.errors import UserError
from fashion.core.files import MIN_FREE_BYTES
from tools.experiments.backend import Backend, ExperimentSpec
from tools.experiments.display import LineDisplay, LiveDisplay
from tools.experiments.local import LocalBackend, remove_stale_clones
from tools.experiments.run import LOGS, ExperimentRun, State

RUN_LOCK = Path(".dvc/tmp/experiments.lock")
STOP_TIMEOUT = 15  # seconds that a stopped experiment has for tidying up, before it is killed
POLL_INTERVAL = 0.1  # seconds


def run_parallel(
    specs: Iterable[ExperimentSpec],
    jobs: int | None = None,
    watch: Callable[[ExperimentRun], None] = lambda run: None,
    backend: Backend | None = None,
) -> None:
    """Run experiments, `jobs` at a time, by default as many as the backend has room for.

    The backend is entered when the first one starts; by default it is this machine. An iterator is
    asked for the next one when its turn comes. `watch` is called after each event of a run. Raises
    UserError when some failed, after all have ended. Whatever ends this, the experiments that still
    run are stopped and the backend is left.
    """
    # both end like Ctrl-C, also where the shell has set them to be ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    known = [ExperimentRun(spec) for spec in specs] if isinstance(specs, list) else []
    upcoming = iter(list(known)) if known else map(ExperimentRun, specs)
    display = LiveDisplay(known) if sys.stdout.isatty() else LineDisplay()
    active: list[ExperimentRun] = []
    failed: list[ExperimentRun] = []
    entered: Backend | None = None
    more = True
    with ExitStack() as stack:
        try:
            stack.enter_context(display)
            while more or active:
                has_room = not active or len(active) < (jobs or entered.capacity)
                if more and has_room:
                    run = next(upcoming, None)
                    if more := run is not None:
                        display.add(run)
                        entered = entered or stack.enter_context(backend or LocalBackend())
                        active.append(run)  # before it starts, so that it is stopped in any case
                        run.start(entered)
                for run in active:
                    if events := run.poll_log():
                        display.show(run, events)
                        watch(run)
                        if run.state is State.PRUNED:
                            display.show(run, [run.state.value])
                    if run.state is not State.RUNNING:
                        entered.discard(run.spec.name)
                failed += [run for run in active if run.state is State.FAILED]
                active = [run for run in active if run.state is State.RUNNING]
                time.sleep(POLL_INTERVAL)
        finally:
            stop(active)
    if failed:
        raise UserError("\n".join(map(describe_failure, failed)))


def stop(runs: list[ExperimentRun]) -> None:
    """End those that still run, with whatever they started.

    By an interrupt, so that DVC tidies up, or else by force: when their time is up, or at the next
    Ctrl-C of someone who does not want to wait.
    """
    jobs = [run.job for run in runs if run.job and run.job.poll() is None]
    for job in jobs:
        job.interrupt()
    deadline = time.monotonic() + STOP_TIMEOUT
    try:
        while any(job.poll() is None for job in jobs) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
    finally:
        for job in jobs:
            if job.poll() is None:
                job.kill()
        for run in runs:
            if run.log:
                run.log.close()


def prune(run: ExperimentRun) -> None:
    """End a run on purpose: it is not worth going on with."""
    stop([run])
    run.state = State.PRUNED


def describe_failure(run: ExperimentRun) -> str:
    """Say that a run failed, with its last lines and where its whole log is."""
    last = "\n".join(f"  | {line}" for line in run.last_lines if line.strip())
    full = (
        "\n  The disk is full: make room, then run it again."
        if shutil.disk_usage(LOGS).free < MIN_FREE_BYTES
        else ""
    )
    return f"{run.spec.name} failed. Its last lines:\n{last}\n  The whole log: {run.log_path}{full}"


@contextmanager
def experiments_lock() -> Iterator[None]:
    """Raise UserError while another process of this project runs experiments."""
    RUN_LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(RUN_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "experiments of this project are already running. Wait for them to end, or stop them"
        ) from None
    try:
        remove_stale_clones()
        yield
    finally:
        RUN_LOCK.unlink(missing_ok=True)
        lock.release()
