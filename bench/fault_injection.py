"""What does it survive?  `python -m bench.fault_injection`

Does to small copies of the project what happens to real ones: kills, full disks, folders that can't
be written to, damaged files, two runs at once, web servers that lie; each many times, at random, on
the commands that people use. After each the plain command must complete, and leave what an
undisturbed run leaves, byte for byte. It takes about an hour, and root, to mount small disks.
`--only SECTION` leaves the other sections in bench/results/fault_injection.json as they were.
`--smoke` is for kills, damages and two at once: stages of the toy pipeline do not explain errors.
Exit status 1 if anything was lost.
"""

import json
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
from bench.portable import STAGES
from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tests.support.faulty_server import KINDS, faulty_server
from tests.support.ray_cluster import publish, ray_cluster
from tests.support.repository import Repository, small_project, toy_project
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
LONGEST = 150  # seconds that a web address may waste: 20 a file and 1 for 50 kB, stages/fetch.py
TEMPORARY = ["**/*.part*", ".dvc/tmp/experiments/clones-*", ".dvc/tmp/*-[0-9]*-*"]
NOT_COMPARED = ": .dvc/config"  # the clone's cache


class Trial(NamedTuple):
    """One fault: what was done, how it ended, and what was lost, if anything."""

    fault: str
    ending: str
    losses: str = ""


class Command:
    """A command in a project, with what it says and leaves there undisturbed."""

    def __init__(self, name: str, project: Repository, *words: str):
        self.name, self.project, self.words = name, project, words
        with copied(project) as undisturbed:
            begun = time.monotonic()
            self.verdict = self.run(undisturbed)
            self.seconds = time.monotonic() - begun
            self.expected = remains(undisturbed)

    def run(self, repository: Repository) -> str:
        """Run it, and return the headline of what it says, if it judges."""
        output = repository.run(*self.words)
        return "".join(line for line in output.splitlines() if line.startswith("### "))

    def losses(self, repository: Repository) -> str:
        """Run it after a fault; return what differs from an undisturbed run."""
        try:
            verdict = self.run(repository)
        except AssertionError as error:
            return str(error)
        found = remains(repository)
        paths = self.expected.keys() | found.keys()
        different = sorted(path for path in paths if self.expected.get(path) != found.get(path))
        return ", ".join(different + [verdict] * (verdict != self.verdict))


def remains(repository: Repository) -> dict[str, bytes]:
    """Return results, the files of each experiment, and what should not be there, by name.

    The latter are temporary files and corrupted ones.
    """
    found = repository.results()
    listing = "git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps"
    for line in repository.run(*listing).splitlines():
        revision, experiment = line.split(" ")
        for entry in repository.run("git", "ls-tree", "-r", revision).splitlines():
            content, path = entry.split("\t")
            found[f"{experiment}: {path}"] = content.encode()
    bad = [str(path) for pattern in TEMPORARY for path in repository.folder.glob(pattern)]
    bad += repository.python("tools.fsck", "--all").splitlines()
    found |= dict.fromkeys(bad, b"")
    return {name: content for name, content in found.items() if not name.endswith(NOT_COMPARED)}


@contextmanager
def copied(project: Repository, disk: Path | None = None) -> Iterator[Repository]:
    """Yield a copy of a project, beside it or on another disk, that is removed at the end."""
    folder = disk or project.folder.parent
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
        yield project.copy(Path(name) / "project")


def complaint(output: str, *expected: str) -> str:
    """Return what is wrong with the message of a command that failed, if anything."""
    is_clear = "Traceback" not in output and any(text in output for text in expected)
    return "" if is_clear else f"no clear message: {output}"


class Bench:
    """The projects that faults are done to, with two experiments each, and their commands."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor, toy: bool):
        self.folder, self.pool, self.chance = folder, pool, np.random.default_rng(0)
        self.drawings = folder / "drawings"
        self.drawings.mkdir()
        write_synthetic_data(read_dataset().files, self.drawings, training=1200, test=400)
        path = folder / "built"
        self.built = toy_project(path) if toy else small_project(path, self.drawings)
        self.built.set(TWO)
        self.built.dvc("repro")
        self.built.commit("Its results")
        self.bare = Repository(folder / "bare")
        self.built.run("git", "clone", "--quiet", ".", str(self.bare.folder))
        for repository in (self.built, self.bare):
            (repository.folder / ".venv").symlink_to(sys.prefix)
        self.outs = {
            stage: {out["path"]: out["size"] for out in entry["outs"]}
            for stage, entry in read_yaml(path / "dvc.lock")["stages"].items()
        }
        self.stages = [stage for stage in STAGES if stage in self.outs]  # the toy has no fetch
        self.repro = Command("dvc repro", self.bare, *REPRO)

    def try_all(self, fault: Callable[..., Trial], cases: Iterable[tuple]) -> list[Trial]:
        """Do a fault to each case, several at a time."""
        trials = []
        for trial in self.pool.map(lambda case: fault(self, *case), cases):
            lost = f", LOST {trial.losses}" if trial.losses else ""
            print(f"{trial.fault}: {trial.ending}{lost}", flush=True)
            trials.append(trial)
        return trials

    @contextmanager
    def before(self, stage: str, disk: Path | None = None) -> Iterator[Repository]:
        """Yield a copy without results, in which the stages before this one have run."""
        with copied(self.bare, disk) as repository:
            for earlier in self.stages[: self.stages.index(stage)][-1:]:
                repository.dvc("repro", "--quiet", earlier)
            for path in self.outs[stage]:  # Git has brought some
                repository.run("rm", "-rf", path)
            yield repository


def kills(bench: Bench, times: int) -> list[Trial]:
    """Kill a command with all that it has started, at a random moment."""
    with ray_cluster(bench.folder, nodes=2) as (address, _):
        commands = [
            Command("make", bench.bare, *MAKE),
            Command("make experiments", bench.built, *EXPERIMENTS),
            *long_commands(bench.folder, address),
        ]
        cases = [(one, bench.chance.uniform(0, one.seconds)) for one in commands * times]
        return bench.try_all(kill, cases)


def long_commands(folder: Path, address: str) -> list[Command]:
    """Return a sweep, a check that runs further seeds, and experiments on a Ray cluster."""
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
    project = toy_project(folder)
    project.slow_training(EPOCH)
    project.dvc("repro", "--quiet")
    project.commit("Its results")
    return project


def kill(_: Bench, command: Command, moment: float) -> Trial:
    with copied(command.project) as repository:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        place = {"cwd": repository.folder, "env": repository.env()}
        process = psutil.Popen(command.words, **place, **silent)
        with suppress(psutil.TimeoutExpired):
            process.wait(moment)
        kill_all(process, repository.folder)
        losses = command.losses(repository)
    return Trial(f"`{command.name}` killed", "completed by the same command", losses)


def kill_all(process: psutil.Popen, folder: Path) -> None:
    """Kill a process and its descendants, then whatever still works in the folder."""
    victims = [process, *process.children(recursive=True)] if process.is_running() else []
    while victims:
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims, timeout=5)
        everyone = psutil.process_iter(["cwd"])
        victims = [one for one in everyone if Path(one.info["cwd"] or "/").is_relative_to(folder)]


def full_disks(bench: Bench, times: int) -> list[Trial]:
    """Run a stage on a disk that has at most half of the room that its outputs need."""
    cases = [(stage, bench.chance.random() / 2) for stage in [*bench.outs] * -(-times // 10)]
    return bench.try_all(fill, cases)


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
    return Trial(f"disk full in {stage}", "refused, then completed", problem)


def read_only_folders(bench: Bench, times: int) -> list[Trial]:
    """Run a stage that writes into a folder, or a project, that is read-only."""
    return bench.try_all(lock, [(name,) for name in FOLDERS * -(-times // 10)])


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
    """Mount a file system at a folder, by default a new one, as long as the block lasts."""
    with tempfile.TemporaryDirectory() as new:
        mount(*words, folder := at or Path(new))
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def mount(*words: str | Path) -> None:
    result = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"can't mount: {result.stderr.strip()}. Run as root, or use `--only`")


def damages(bench: Bench, times: int) -> list[Trial]:
    """Flip a byte, cut off the end or delete each file of the results and of DVC's cache."""
    with copied(bench.bare) as start:
        start.run(*MAKE)
        start.commit("Its results")  # so that Git knows them
        start.run(*MAKE)  # so that the experiments are kept with this commit
        make = Command("make", start, *MAKE)
        cache = (start.folder / ".dvc/cache/files").rglob("*")
        files = {name for name in start.results() if name not in ("dvc.lock", "models/README.md")}
        files |= {str(path.relative_to(start.folder)) for path in cache if path.is_file()}
        cases = [
            (make, str(name), kind, bench.chance.random())
            for name in bench.chance.permutation(sorted(files))[: 3 * times]
            for kind in ("byte flipped", "cut off", "deleted")
        ]
        return bench.try_all(damage, cases)


def damage(_: Bench, make: Command, name: str, kind: str, place: float) -> Trial:
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
    """Start a second command while a first one runs."""
    pairs = [(MAKE, MAKE), (REPRO, REPRO), (EXPERIMENTS, EXPERIMENTS)]
    pairs += [(REPRO, EXPERIMENTS), (EXPERIMENTS, REPRO)]
    command = Command("make experiments", bench.built, *EXPERIMENTS)
    cases = [
        (command, *pair, bench.chance.uniform(0, command.seconds))
        for pair in pairs * -(-times // 10)
    ]
    return bench.try_all(run_together, cases)


def run_together(_: Bench, command: Command, one: list, other: list, delay: float) -> Trial:
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


def downloads(bench: Bench, times: int) -> list[Trial]:
    """Fetch from a web address that misbehaves, with and without another source after it."""
    kinds = [*KINDS] * -(-times // 15)
    return bench.try_all(download, [(kind, alone) for kind in kinds for alone in (False, True)])


def download(bench: Bench, kind: str, alone: bool) -> Trial:
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        repository = small_project(Path(folder) / "project", bench.drawings)
        contents = {path.name: path.read_bytes() for path in bench.drawings.iterdir()}
        with faulty_server(contents) as address:
            sources = [f"{address}/{kind}"] + [str(bench.drawings)] * (not alone)
            repository.set(f"sources={json.dumps(sources)}")
            begun = time.monotonic()
            output = repository.dvc("repro", "fetch", status=None)
            seconds = time.monotonic() - begun
        raw = repository.folder / "data/raw"
        found = {path.name: path.read_bytes() for path in raw.iterdir()} if raw.is_dir() else {}
    problems = complaint(output, f"{address}/{kind}: ")
    problems += complaint(output, "no source has") if alone else ""
    problems += f"took {seconds:.0f} s" if seconds > LONGEST else ""
    problems += f"data/raw has {sorted(found)}" if found != ({} if alone else contents) else ""
    ending = "refused with what to do" if alone else "taken from the next source"
    return Trial(f"web server: {kind}", ending, problems)


SECTIONS = {
    section.__name__: section
    for section in (kills, full_disks, read_only_folders, damages, two_at_once, downloads)
}


def summary(trials: list[Trial]) -> Rows:
    """Return a row for each fault: how often it was done, how it ended, and the losses."""
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
    parser.add_argument("--only", metavar="SECTION", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--times", metavar="N", type=positive_int, default=30, help="of each kill")
    parser.add_argument("--smoke", action="store_true", help="on the toy pipeline, not recorded")
    arguments = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        ThreadPoolExecutor(cpu_count()) as pool,
    ):
        bench = Bench(Path(folder), pool, arguments.smoke)
        for name in arguments.only:
            rows += (found := summary(SECTIONS[name](bench, arguments.times)))
            if not arguments.smoke:
                record("fault_injection", name, found, to_table)
    print(pd.DataFrame(rows).to_markdown(index=False))
    if any(row["losses"] for row in rows):
        raise UserError("something was lost; the lines above with LOST say what")


if __name__ == "__main__":
    with command_line("faults"):
        main()
