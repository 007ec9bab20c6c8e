"""Measure what the project survives: `python -m bench.fault_injection`.

Puts faults into small copies of the project, many times, at random moments: kills, full disks,
read-only folders, corrupted files, two runs at once. Then it runs the same command again, which
must complete with the same bytes as an undisturbed run. Writes bench/results/fault_injection.json.
Exit status 1 if anything was lost.

It takes about an hour, and needs root to mount small disks. `--only SECTION` runs some sections and
keeps the results of the others. Faults of web servers are in tests/stages/test_fetch.py.
"""

import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
from joblib import cpu_count

from bench.measure import Rows, record
from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tests.support.commands import processes_in
from tests.support.ray_cluster import publish, ray_cluster
from tests.support.repository import STAGES, Repository, small_project, toy_project
from tools.arguments import parser_of, positive_int
from tools.demo import write_synthetic_data
from tools.process import command_line

MAKE = ["make", "--old-file=.venv/bin/installed"]  # .venv is the environment that runs this
EXPERIMENTS = [*MAKE, "experiments"]
PYTHON = [sys.executable, "-m"]
REPRO = [*PYTHON, "dvc", "repro"]
FOLDERS = [".", "data", "models", "metrics", "plots"]
TWO = "experiments={short: {train.epochs: 1}, longer: {train.epochs: 3, train.batch_size: 64}}"
FOUR = "experiments={a: {seed: 1}, b: {seed: 2}, c: {seed: 3}, d: {seed: 4}}"
SWEEP = """sweeps={small: {
  metric: val_accuracy, trials: 4, jobs: 2, seed: 1, sampler: random, prune: false,
  space: {train.learning_rate: {low: 0.0001, high: 0.1, log: true}},
}}"""
METRICS = "metrics={accuracy: {better: higher, margin: 0.015, floor: 0.1}}"
A_BIT_WORSE = "train.learning_rate=0.0013"  # which needs further seeds
EPOCH = 0.3  # seconds an epoch of the toy pipeline, so that a kill hits some
TEMPORARY = ["**/*.part*", ".dvc/tmp/experiments/clones-*", ".dvc/tmp/*-[0-9]*-*"]
NOT_COMPARED = ": .dvc/config"  # has the path of the clone's cache


class Trial(NamedTuple):
    """One fault, how the run after it ended, and what was lost ("" for nothing)."""

    fault: str
    ending: str
    losses: str = ""


class Command:
    """A command in a project, and the result and duration of an undisturbed run."""

    def __init__(self, name: str, project: Repository, *words: str):
        self.name, self.project, self.words = name, project, words
        with copied(project) as undisturbed:
            begun = time.monotonic()
            output = undisturbed.run(*words)
            self.seconds = time.monotonic() - begun
            self.expected = remains(undisturbed, output)

    def losses(self, repository: Repository) -> str:
        """Run the command after a fault and return what differs from an undisturbed run."""
        try:
            found = remains(repository, repository.run(*self.words))
        except AssertionError as error:
            return str(error)
        names = sorted(self.expected.keys() | found.keys())
        return ", ".join(name for name in names if self.expected.get(name) != found.get(name))


def remains(repository: Repository, output: str) -> dict[str, bytes]:
    """Return what a command left, by name.

    These are results, experiments, temporary files, corrupted files and the verdict of a check.
    """
    found = repository.results()
    listing = "git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps"
    for line in repository.run(*listing).splitlines():
        revision, experiment = line.split(" ")  # not `split()`: DVC's own references have no name
        for entry in repository.run("git", "ls-tree", "-r", revision).splitlines():
            content, path = entry.split("\t")
            found[f"{experiment}: {path}"] = content.encode()
    bad = [str(path) for pattern in TEMPORARY for path in repository.folder.glob(pattern)]
    bad += repository.python("tools.fsck", "--all").splitlines()
    found |= dict.fromkeys([*bad, *re.findall("^### .*", output, re.MULTILINE)], b"")
    return {name: content for name, content in found.items() if not name.endswith(NOT_COMPARED)}


@contextmanager
def copied(project: Repository, disk: Path | None = None) -> Iterator[Repository]:
    """Yield a temporary copy of a project, in the same folder or on another disk."""
    folder = disk or project.folder.parent
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
        yield project.copy(Path(name) / "project")


def complaint(output: str, *expected: str) -> str:
    """Return what is unclear about the message of a failed command, "" for nothing."""
    is_clear = "Traceback" not in output and any(text in output for text in expected)
    return "" if is_clear else f"no clear message: {output}"


class Bench:
    """The projects that get the faults, with two experiments each.

    `built` has results, and `bare`, a clone without DVC's cache, has those that Git keeps.
    """

    def __init__(self, folder: Path, pool: ThreadPoolExecutor):
        self.folder, self.pool, self.chance = folder, pool, np.random.default_rng(0)
        self.data = folder / "data"
        self.data.mkdir()
        write_synthetic_data(self.data, training=1200, test=400)
        self.built = small_project(folder / "built", self.data)
        self.built.set(TWO)
        self.built.dvc("repro")
        self.built.commit("Its results")
        self.bare = self.built.clone(folder / "bare")
        for repository in (self.built, self.bare):
            (repository.folder / ".venv").symlink_to(sys.prefix)
        self.outs = {
            stage: {out["path"]: out["size"] for out in entry["outs"]}
            for stage, entry in read_yaml(self.built.folder / "dvc.lock")["stages"].items()
        }
        self.repro = Command("dvc repro", self.bare, *REPRO)

    def try_all(self, fault: Callable[..., Trial], cases: Iterable[tuple]) -> list[Trial]:
        """Run one kind of fault on each case, several at a time."""
        trials = []
        for trial in self.pool.map(lambda case: fault(*case), cases):
            lost = f", LOST {trial.losses}" if trial.losses else ""
            print(f"{trial.fault}: {trial.ending}{lost}", flush=True)
            trials.append(trial)
        return trials

    @contextmanager
    def before(self, stage: str, disk: Path | None = None) -> Iterator[Repository]:
        """Yield a copy in which the stages before this one have run, and this one has not."""
        with copied(self.bare, disk) as repository:
            for earlier in STAGES[: STAGES.index(stage)][-1:]:
                repository.dvc("repro", "--quiet", earlier)
            for path in self.outs[stage]:  # Git has some
                repository.run("rm", "-rf", path)
            yield repository


def kills(bench: Bench, times: int) -> list[Trial]:
    """Kill a command and its child processes at a random moment."""
    with ray_cluster(bench.folder, nodes=2) as (address, _):
        commands = [
            Command("make", bench.bare, *MAKE),
            Command("make experiments", bench.built, *EXPERIMENTS),
            *long_commands(bench.folder, address),
        ]
        cases = [(one, bench.chance.uniform(0, one.seconds)) for one in commands * times]
        return bench.try_all(kill, cases)


def long_commands(folder: Path, address: str) -> list[Command]:
    """Return a sweep, a check that trains further seeds, and experiments on a Ray cluster."""
    sweep, check, cluster = (slow_toy(folder / name / "project") for name in ("a", "b", "c"))
    sweep.set(SWEEP)
    sweep.commit("A sweep")
    check.set(METRICS)
    check.commit("Rules")
    check.python("tools.gate.noise", "--seeds", "5")
    check.commit("Noise")
    check.set(A_BIT_WORSE)
    check.dvc("repro", "--quiet")
    check.commit("A bit worse")
    cluster.set(FOUR, "ray={cpus: 1, gpus: 0}")
    publish(cluster, cluster.folder.parent)
    return [
        Command("make sweep", sweep, *PYTHON, "tools.experiments.sweep"),
        Command("make check", check, *PYTHON, "tools.gate.check", "--baseline", "HEAD~1"),
        Command("make experiments --ray", cluster, *PYTHON, "tools.experiments", "--ray", address),
    ]


def slow_toy(folder: Path) -> Repository:
    """Return a project with the toy pipeline, whose epochs take EPOCH seconds, and its results."""
    project = toy_project(folder)
    project.slow_training(EPOCH)
    project.dvc("repro", "--quiet")
    project.commit("Its results")
    return project


def kill(command: Command, moment: float) -> Trial:
    with copied(command.project) as repository:
        options = {"cwd": repository.folder, "env": repository.env(), "stdout": subprocess.DEVNULL}
        process = psutil.Popen(command.words, stderr=subprocess.STDOUT, **options)
        with suppress(psutil.TimeoutExpired):
            process.wait(moment)
        kill_all(process, repository.folder)
        losses = command.losses(repository)
    return Trial(f"`{command.name}` killed", "completed by the same command", losses)


def kill_all(process: psutil.Popen, folder: Path) -> None:
    """Kill a process, its descendants, and then every process that works in the folder."""
    victims = [process, *process.children(recursive=True)] if process.is_running() else []
    while victims:
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims, timeout=5)
        victims = processes_in(folder)


def full_disks(bench: Bench, times: int) -> list[Trial]:
    """Run a stage on a disk with room for at most half of its outputs."""
    writing = STAGES[1:]  # validate writes a few bytes
    stages = writing * math.ceil(times / len(writing))
    return bench.try_all(fill, [(bench, stage, bench.chance.random() / 2) for stage in stages])


def fill(bench: Bench, stage: str, share: float) -> Trial:
    with (
        mounted("-t", "tmpfs", "-o", "size=1g", "tmpfs") as disk,
        bench.before(stage, disk) as copy,
    ):
        free = int(share * sum(bench.outs[stage].values()))
        mount("-o", f"remount,size={shutil.disk_usage(disk).used + free}", disk)
        output = copy.run(*REPRO, stage, status=None)
        mount("-o", "remount,size=1g", disk)
        problem = complaint(output, "No space left", "disk is full") or bench.repro.losses(copy)
    return Trial("disk full", "refused, then completed", problem and f"{stage}: {problem}")


def read_only_folders(bench: Bench, times: int) -> list[Trial]:
    """Run a stage that writes into a read-only folder or project."""
    folders = FOLDERS * math.ceil(times / len(FOLDERS))
    return bench.try_all(lock, [(bench, name) for name in folders])


def lock(bench: Bench, name: str) -> Trial:
    with bench.before("prepare" if name in (".", "data") else "train") as repository:
        folder = repository.folder / name
        folder.mkdir(exist_ok=True)
        with mounted("--bind", folder, at=folder):
            mount("-o", "remount,ro,bind", folder)
            output = repository.run(*REPRO, status=None)
        problem = complaint(output, "Read-only file system") or bench.repro.losses(repository)
    return Trial("folder read-only", "refused, then completed", problem)


@contextmanager
def mounted(*words: str | Path, at: Path | None = None) -> Iterator[Path]:
    """Mount a file system while the block runs, and yield its folder, by default a new one."""
    with tempfile.TemporaryDirectory() as new:
        mount(*words, folder := at or Path(new))
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def mount(*words: str | Path) -> None:
    result = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"can't mount: {result.stderr.strip()}. Run this as root, or use `--only`")


def damages(bench: Bench, times: int) -> list[Trial]:
    """Flip a byte of a file of the results or of DVC's cache, cut off its end, or delete it."""
    with copied(bench.bare) as start:
        start.run(*MAKE)
        start.commit("Its results")  # so that Git can restore them
        start.run(*MAKE)  # so that DVC keeps the experiments with this commit
        make = Command("make", start, *MAKE)
        cache = (start.folder / ".dvc/cache/files").rglob("*")
        cached = [str(path.relative_to(start.folder)) for path in cache if path.is_file()]
        made = [name for name in start.results() if not name.endswith(("dvc.lock", "README.md"))]
        cases = [
            (make, str(name), kind, bench.chance.random())
            for files in (sorted(cached), sorted(made))
            for kind in ("byte flipped", "cut off", "deleted")
            for name in bench.chance.choice(files, times)
        ]
        return bench.try_all(damage, cases)


def damage(make: Command, name: str, kind: str, place: float) -> Trial:
    in_cache = name.startswith(".dvc")
    with copied(make.project) as repository:
        path = repository.folder / name
        content, mode = path.read_bytes(), path.stat().st_mode
        at = int(place * len(content))
        path.unlink()
        if kind != "deleted":
            flipped = bytes([content[at] ^ 1]) + content[at + 1 :]
            path.write_bytes(content[:at] + (flipped if kind == "byte flipped" else b""))
            path.chmod(mode)  # DVC trusts read-only files in its cache
        output = repository.run(*make.words, status=None)
        ending, problem = "repaired by `make`", ""
        if "make: ***" in output:
            ending, problem = "refused with what to do", complaint(output, name)
            repository.run("git", "checkout", "--", ".")
        if in_cache:  # with files that dvc.lock does not name
            output += repository.python("tools.fsck", "--all")
            if kind != "deleted" and name not in output:
                problem = "not noticed"
        problem = problem or make.losses(repository)
    where = "DVC's cache" if in_cache else "the workspace"
    return Trial(f"file damaged in {where}: {kind}", ending, problem and f"{name}: {problem}")


def two_at_once(bench: Bench, times: int) -> list[Trial]:
    """Start a second command while the first one runs."""
    pairs = [(MAKE, MAKE), (REPRO, REPRO), (EXPERIMENTS, EXPERIMENTS)]
    pairs += [(REPRO, EXPERIMENTS), (EXPERIMENTS, REPRO)]
    command = Command("make experiments", bench.built, *EXPERIMENTS)
    pairs *= math.ceil(times / len(pairs))
    cases = [(command, *pair, bench.chance.uniform(0, command.seconds)) for pair in pairs]
    return bench.try_all(run_together, cases)


def run_together(command: Command, one: list, other: list, delay: float) -> Trial:
    with copied(command.project) as repository, ThreadPoolExecutor() as pool:
        shutil.rmtree(repository.folder / ".dvc/cache")
        first = pool.submit(repository.run, *one, status=None)
        time.sleep(delay)
        outputs = [repository.run(*other, status=None), first.result()]
        refusal = re.compile(r"make: \*\*\*|^ERROR|^experiments:", re.MULTILINE)
        refused = [output for output in outputs if refusal.search(output)]
        busy = ("already running", "Unable to acquire lock", "is busy", "another DVC process")
        problem = "neither completed" if len(refused) == 2 else ""
        problem = problem or "".join(complaint(output, *busy) for output in refused)
        problem = problem or command.losses(repository)
    return Trial("two runs at once", "the second refused" if refused else "both completed", problem)


FAULTS = (kills, full_disks, read_only_folders, damages, two_at_once)
SECTIONS = {section.__name__: section for section in FAULTS}


def summary(trials: list[Trial]) -> Rows:
    """Return a row for each fault: how often it was tried, the endings, and the losses."""
    rows = []
    for fault, group in pd.DataFrame(trials).groupby("fault"):
        endings = [f"{ending} ({n})" for ending, n in group["ending"].value_counts().items()]
        row = {"fault": fault, "times": len(group), "ending": ", ".join(endings)}
        rows.append(row | {"losses": int((group["losses"] != "").sum())})
    return rows


def to_table(sections: dict[str, Rows]) -> dict[str, Rows]:
    return {"faults": [row for rows in sections.values() for row in rows]}


def main() -> None:
    parser = parser_of("faults", __doc__)
    only = {"nargs": "+", "choices": SECTIONS, "default": SECTIONS}
    parser.add_argument("--only", metavar="SECTION", **only, help=f"of {', '.join(SECTIONS)}")
    times = "how often to try each fault, at least (default: 30)"
    parser.add_argument("--times", metavar="N", type=positive_int, default=30, help=times)
    arguments = parser.parse_args()
    losses = 0
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        ThreadPoolExecutor(cpu_count()) as pool,
    ):
        bench = Bench(Path(folder), pool)
        for name in arguments.only:
            rows = summary(SECTIONS[name](bench, arguments.times))
            record("fault_injection", name, rows, to_table)
            losses += sum(row["losses"] for row in rows)
    if losses:
        raise UserError("something was lost. The lines above with LOST say what")


if __name__ == "__main__":
    with command_line("faults"):
        main()
