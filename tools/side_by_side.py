"""DVC experiments side by side: several `dvc exp run --temp` at a time.

They are watched, and cleaned up after. They run in a clone, since DVC changes params.yaml for a
moment and stashes what is not committed: killed in that moment, it would leave your files so. DVC
makes a temporary workspace for each, which sees the files that Git tracks and shares the cache; the
result is a Git reference, and is fetched from the clone. One training thread each is the most work
per core.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TextIO

import psutil
from filelock import FileLock, Timeout
from joblib import cpu_count
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fashion.errors import UserError
from fashion.files import FULL
from tools.dvc import command, environment
from tools.fsck import cache_folder
from tools.git import NO_GC, git, git_bytes

LOGS = Path(".dvc/tmp/experiments")  # and clones
LOCK = Path(".dvc/tmp/experiments.lock")
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
ANEW = ["--force", "--downstream", "train"]
PATIENCE = 15  # seconds that a stopped experiment has for tidying up, before it is killed

SHOWN = 12  # of those that have ended, in the live display
ENDS = ("done", "failed", "given up")
STAGE = re.compile(r"Running stage '(\w+)'")
EPOCH = re.compile(r"epoch (\d+)/(\d+) .*val_loss ([\d.]+) val_accuracy ([\d.]+)")


class Clone:
    """Where experiments run on this machine: a clone of the repository.

    It has the changes that are not committed. It shares DVC's cache and settings, and is gone when
    the block ends.
    """

    def __enter__(self) -> "Clone":
        LOGS.mkdir(parents=True, exist_ok=True)
        self.folder = Path(mkdtemp(prefix="clone-", dir=LOGS)).resolve()
        git("clone", "--quiet", "--no-tags", NO_GC, ".", str(self.folder))
        as_a_patch = [
            "--binary",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--src-prefix=a/",
            "--dst-prefix=b/",
        ]
        if changes := git_bytes("diff", *as_a_patch, "HEAD"):  # whatever the user has configured
            patch = self.folder / ".git/changes"
            patch.write_bytes(changes)
            self.git("apply", str(patch))
        for key in ("user.name", "user.email"):
            if value := git("config", "--default", "", "--get", key).strip():
                self.git("config", key, value)
        if (settings := Path(".dvc/config.local")).exists():
            shutil.copy(settings, self.folder / settings)
        from dvc.config import Config  # slow, so only where it is needed

        with Config(str(self.folder / ".dvc")).edit("local") as config:
            config["cache"]["dir"] = str(cache_folder())
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def git(self, *arguments: str) -> str:
        return git("-C", str(self.folder), *arguments)

    def start(self, name: str, settings: list[str], log: Path) -> subprocess.Popen:
        with log.open("wb") as file:
            return subprocess.Popen(
                command("exp", "run", "--temp", "--name", name, *settings),
                cwd=self.folder,
                env=environment(
                    **ONE_THREAD
                    | {name: os.environ[name] for name in ONE_THREAD if name in os.environ}
                ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that it can be stopped with all that it started
            )

    def fetch(self, name: str) -> None:
        """Take an experiment over, in the place of an older one of its name."""
        commit = self.git("rev-parse", "HEAD").strip()
        reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
        git("fetch", "--quiet", "--no-tags", str(self.folder), f"+{reference}:{reference}")

    room = cpu_count()  # experiments at a time
    in_turn = True  # DVC mixes up two that are started in the same moment

    @staticmethod
    def stop(process: subprocess.Popen, number: signal.Signals) -> None:
        os.killpg(process.pid, number)


@dataclass
class Experiment:
    """One experiment to run: its name, the params that it sets, and how far it has come."""

    name: str
    overrides: dict[str, Any]
    anew: bool = False  # train, whatever DVC's run cache has
    place: Clone | None = None  # where it runs
    process: subprocess.Popen | None = None
    reader: TextIO | None = None
    stage: str = "waiting"
    epoch: int = 0
    epochs: int = 0
    val_accuracy: str = ""
    curve: list[dict[str, float]] = field(default_factory=list)  # of each epoch
    given_up: bool = False  # stopped on purpose
    started: float = 0.0
    training_since: float = 0.0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=12))

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"

    def start(self, place: Clone) -> None:
        settings = [
            f"--set-param={name}={json.dumps(value)}" for name, value in self.overrides.items()
        ]
        settings += ANEW if self.anew else []
        LOGS.mkdir(parents=True, exist_ok=True)
        self.process = place.start(self.name, settings, self.log)
        self.reader = self.log.open(encoding="utf-8", errors="replace")
        self.place, self.stage, self.started = place, "starting", time.monotonic()

    def follow(self) -> list[str]:
        """Read what is new in the log; return what has happened, in words."""
        news, ended = [], not self.running  # asked first, so that the last lines are read
        for line in self.reader:
            self.lines.append(line.rstrip("\n"))
            if match := STAGE.match(line):
                self.stage, self.training_since = match[1], time.monotonic()
                news.append(self.stage)
            elif match := EPOCH.match(line):
                self.epoch, self.epochs, self.val_accuracy = int(match[1]), int(match[2]), match[4]
                del self.curve[self.epoch - 1 :]  # begun again elsewhere
                self.curve.append({"val_loss": float(match[3]), "val_accuracy": float(match[4])})
                news.append(
                    f"epoch {self.epoch}/{self.epochs}, validation accuracy {self.val_accuracy}"
                )
        if ended and self.stage not in ENDS:
            self.reader.close()  # a thousand of them would be too many
            self.stage = "given up" if self.given_up else "failed" if self.failed else "done"
            if self.stage == "done":
                self.place.fetch(self.name)
            news.append(f"{self.stage} after {time.monotonic() - self.started:.0f} s")
        return news

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def under_way(self) -> bool:
        """Whether DVC has taken up this experiment, so that the next one can be handed to it."""
        begun = ("Reproducing experiment", "Stage", "Running")
        return (
            not self.place.in_turn
            or not self.running
            or any(line.startswith(begun) for line in self.lines)
        )

    @property
    def failed(self) -> bool:
        return bool(self.process and self.process.returncode) and not self.given_up

    @property
    def time_left(self) -> str:
        if self.stage != "train" or not self.epoch:
            return ""
        seconds = (time.monotonic() - self.training_since) / self.epoch * (self.epochs - self.epoch)
        return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"


def stop(experiments: list[Experiment]) -> None:
    """End all that still run, with whatever they started.

    By an interrupt, so that DVC tidies up, or else by force.
    """
    for number, patience in ((signal.SIGINT, PATIENCE), (signal.SIGKILL, None)):
        running = [experiment for experiment in experiments if experiment.running]
        for experiment in running:
            experiment.place.stop(experiment.process, number)
        deadline = patience and time.monotonic() + patience
        for experiment in running:
            with suppress(subprocess.TimeoutExpired):
                experiment.process.wait(deadline and max(0, deadline - time.monotonic()))


def run_side_by_side(
    experiments: Iterable[Experiment],
    jobs: int | None = None,
    watch: Callable[[Experiment], None] = lambda experiment: None,
    place: Clone | None = None,
) -> None:
    """Run the experiments, `jobs` at a time; here, or in another place.

    By default as many at a time as there is room for. An iterator is asked for the next one when
    its turn comes. `watch` is called after each piece of news from one. Raises UserError when some
    failed, after all have ended. Whatever ends this, the experiments that still run are stopped and
    no clone is left.
    """
    # both end like Ctrl-C, also where the shell has set them to be ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    shown = list(experiments) if isinstance(experiments, list) else []
    upcoming, started, more, entered = iter(experiments), [], True, None
    display = LiveDisplay(shown) if sys.stdout.isatty() else PlainDisplay()
    with ExitStack() as stack:
        try:
            with display:
                while more or any(experiment.stage not in ENDS for experiment in started):
                    active = [experiment for experiment in started if experiment.running]
                    room = not active or len(active) < (jobs or entered.room)
                    if more and room and all(experiment.under_way for experiment in active):
                        experiment = next(upcoming, None)
                        more = experiment is not None
                        if more:
                            started.append(experiment)
                            shown += [] if experiment in shown else [experiment]
                            entered = entered or stack.enter_context(place or Clone())
                            experiment.start(entered)
                    for experiment in started:
                        if experiment.stage not in ENDS and (news := experiment.follow()):
                            display.show(experiment, news)
                            watch(experiment)
                    time.sleep(0.1)
        finally:
            stop(started)
            for experiment in started:
                if experiment.reader:
                    experiment.reader.close()
    failures = [experiment for experiment in started if experiment.failed]
    if failures:
        raise UserError("\n".join(_failure(experiment) for experiment in failures))


def _failure(experiment: Experiment) -> str:
    last = "\n".join(f"  | {line}" for line in experiment.lines if line.strip())
    full = (
        "\n  The disk is full: make room, then run it again."
        if shutil.disk_usage(LOGS).free < FULL
        else ""
    )
    return (
        f"{experiment.name} failed. Its last lines:\n{last}\n"
        f"  The whole log: {experiment.log}{full}"
    )


class only_one:
    """Refuse to begin while another process of this project runs experiments."""

    def __enter__(self) -> None:
        LOCK.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(LOCK)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                "experiments of this project are already running."
                " Wait for them to end, or stop them"
            ) from None
        remove_abandoned_clones()

    def __exit__(self, *_) -> None:
        LOCK.unlink(missing_ok=True)
        self.lock.release()


def remove_abandoned_clones() -> None:
    """Delete the clones of a run that was killed: those in which no process works any more."""
    clones = list(LOGS.glob("clone-*"))
    folders = {process.info["cwd"] for process in psutil.process_iter(["cwd"])} if clones else set()
    for clone in clones:
        if not any(folder and Path(folder).is_relative_to(clone.resolve()) for folder in folders):
            shutil.rmtree(clone, ignore_errors=True)


class PlainDisplay:
    """A line for whatever happens; for logs and pipes."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_) -> None:
        pass

    def show(self, experiment: Experiment, news: list[str]) -> None:
        for text in news:
            print(f"{experiment.name}: {text}", flush=True)


class LiveDisplay:
    """A line per experiment, kept up to date; for terminals."""

    def __init__(self, experiments: list[Experiment]):
        self.experiments = experiments
        self.live = Live(console=Console(), refresh_per_second=4, get_renderable=self.table)

    def __enter__(self) -> None:
        self.live.start()

    def __exit__(self, *_) -> None:
        self.live.stop()

    def show(self, experiment: Experiment, news: list[str]) -> None:
        pass  # the table is drawn anew by itself

    def table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("experiment", "stage"):
            table.add_column(name)
        for name in ("epoch", "validation accuracy", "left"):
            table.add_column(name, justify="right")
        colours = {"failed": "red", "done": "green", "waiting": "dim"}
        ended = [experiment for experiment in self.experiments if experiment.stage in ENDS]
        for experiment in [*ended[-SHOWN:], *(one for one in self.experiments if one not in ended)]:
            epoch = f"{experiment.epoch} of {experiment.epochs}" if experiment.epoch else ""
            row = (
                experiment.name,
                experiment.stage,
                epoch,
                experiment.val_accuracy,
                experiment.time_left,
            )
            table.add_row(*row, style=colours.get(experiment.stage))
        return table
