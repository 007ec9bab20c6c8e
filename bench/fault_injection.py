"""What does it survive?  `python -m bench.fault_injection`

Does to small copies of the project (drawn garments, two experiments) what happens to real ones:
kills, full disks, folders that can't be written to, damaged files, two runs at once, web servers
that lie; each many times, at random, on the commands that people use. After each the plain command
must complete, and leave what an undisturbed run leaves, byte for byte. Writes
metrics/fault_injection.json, from which a table in docs/ is made. It takes about an hour, and root,
to mount small disks; `--only SECTION` leaves the other sections as they were. Exit status 1 when
anything was lost.
"""

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from joblib import cpu_count

from bench.kills import Trial, check, cluster, kill_all, sweep
from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.files import write_json
from fashion.core.strict_yaml import read_yaml
from fashion.model.environment import describe_environment
from tests.support.faulty_server import KINDS, faulty_server
from tests.support.repository import Repository, small_project
from tools.arguments import positive_int
from tools.demo import draw_data_set

RESULT = Path("metrics/fault_injection.json")
MAKE = ["make", "--old-file=.venv/bin/installed"]  # .venv is the environment that runs this
EXPERIMENTS = [*MAKE, "experiments"]
STAGES = ["fetch", "prepare", "train", "evaluate", "plot"]
FOLDERS = ["data", "models", "metrics", "plots", "."]
ASIDE = 20, 50_000  # what stages/fetch.py grants a web address: seconds, and bytes a second


class Bench:
    """The small projects to start from, and what an undisturbed run leaves."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.numbers = folder, itertools.count()
        self.stack = stack  # of what is to end with the trials
        self.drawings = folder / "drawings"
        self.drawings.mkdir()
        draw_data_set(read_dataset().files, self.drawings, training=1200, test=400)
        self.built = small_project(folder / "built", self.drawings)
        self.built.set(
            "experiments={short: {train.epochs: 1},"
            " longer: {train.epochs: 3, train.batch_size: 64}}"
        )
        self.built.dvc("repro")
        stages = read_yaml(self.built.folder / "dvc.lock")["stages"]
        self.outs = {
            name: {out["path"]: out["size"] for out in stage["outs"]}
            for name, stage in stages.items()
        }
        self.built.commit("Its results")
        self.bare = Repository(folder / "bare")
        self.built.run("git", "clone", "--quiet", ".", str(self.bare.folder))
        for repository in (self.built, self.bare):
            (repository.folder / ".venv").symlink_to(sys.prefix)
            (repository.folder / ".git/info/exclude").write_text(".venv\n")
        self.made = self.copy(self.bare)
        done = self.copy(self.built)
        self.seconds = {
            "make": self.timed(self.made, MAKE),
            "make experiments": self.timed(done, EXPERIMENTS),
        }
        self.results, self.expected = self.built.results(), outcome(self.made)
        assert outcome(done) == self.expected

    def copy(self, repository: Repository, into: Path | None = None) -> Repository:
        return repository.copy((into or self.folder) / f"copy-{next(self.numbers)}")

    @staticmethod
    def timed(repository: Repository, words: list[str]) -> float:
        begun = time.monotonic()
        repository.run(*words)
        return time.monotonic() - begun


def outcome(repository: Repository) -> dict[str, bytes]:
    """Return all that a run leaves: the files, and those that Git keeps of each experiment.

    Its dvc.lock is among the latter. The record of the environment, which no stage reads, is left
    out: an experiment taken from DVC's run cache has another.
    """
    found = repository.results()
    for line in repository.run(
        "git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps"
    ).splitlines():
        revision, experiment = line.split(" ")
        for entry in repository.run("git", "ls-tree", "-r", revision).splitlines():
            content, path = entry.split("\t")
            found[f"{experiment}: {path}"] = content.encode()
    return {
        name: content
        for name, content in found.items()
        if not name.endswith("metrics/environment.json")
    }


def lost(repository: Repository, expected: dict[str, bytes], found: dict[str, bytes]) -> str:
    """What differs from an undisturbed run, and what lies about half-written or damaged."""
    different = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    parts = [str(path) for path in repository.folder.rglob("*.part*") if ".venv" not in path.parts]
    clones = [str(path) for path in (repository.folder / ".dvc/tmp/experiments").glob("clones-*")]
    return ", ".join(
        [*different, *parts, *clones, *repository.python("tools.fsck", "--all").splitlines()]
    )


def completed(repository: Repository, words: list[str], expected: dict[str, bytes]) -> str:
    """Run the plain command; return what is lost all the same."""
    try:
        repository.run(*words)
    except AssertionError as error:
        return str(error)
    return lost(
        repository, expected, outcome(repository) if words[0] == "make" else repository.results()
    )


def complaint(output: str, *expected: str) -> str:
    """Return what is wrong with the message of a command that failed.

    It must hold one of `expected`, and no traceback.
    """
    if "Traceback" in output:
        return f"a traceback: {output}"
    return "" if any(text in output for text in expected) else f"no clear message: {output}"


# Kills


def kills(bench: Bench, times: int) -> list[Callable[[], Trial]]:
    """Kill all that `make` and `make experiments` have started, at random moments.

    It is killed by `kill -9`.
    """
    chance = np.random.default_rng(0)
    commands = [("make", MAKE, bench.bare), ("make experiments", EXPERIMENTS, bench.built)]
    return [
        partial(kill, bench, name, words, start, chance.uniform(0, bench.seconds[name]))
        for name, words, start in commands
        for _ in range(times)
    ]


def kill(bench: Bench, name: str, words: list[str], start: Repository, moment: float) -> Trial:
    repository = bench.copy(start)
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(
            words, cwd=repository.folder, env=repository.env(), stdout=log, stderr=log
        )
        with suppress(psutil.TimeoutExpired):
            process.wait(moment)
        kill_all(process, repository.folder)
    return Trial(
        f"`{name}` killed",
        "completed by the same command",
        completed(repository, words, bench.expected),
    )


def long_kills(bench: Bench, times: int) -> list[Callable[[], Trial]]:
    """The same for commands that run for long, on the toy pipeline."""
    chance = np.random.default_rng(4)
    killers = [sweep(bench.folder), check(bench.folder)]
    killers += [bench.stack.enter_context(cluster(bench.folder))]
    return [trial for killer in killers for trial in killer.trials(times, chance)]


# Disks


def full_disks(bench: Bench, times: int) -> list[Callable[[], Trial]]:
    """A disk on which a stage finds at most half of the room that its outputs need."""
    chance = np.random.default_rng(1)
    return [
        partial(fill, bench, stage, chance.random() / 2)
        for stage in STAGES
        for _ in range(max(1, times // 10))
    ]


def fill(bench: Bench, stage: str, share: float) -> Trial:
    fault = f"disk full in {stage}"
    with mounted(bench, "-t", "tmpfs", "-o", "size=1g", "tmpfs") as disk:
        repository = before(bench, stage, disk)
        # so that the stage must run, also where Git has brought its results
        for path in bench.outs[stage]:
            repository.run("rm", "-rf", path)
        filler = disk / "filler"
        with filler.open("wb") as file:
            left = shutil.disk_usage(disk).free - int(share * sum(bench.outs[stage].values()))
            while left > 0:
                left -= file.write(bytes(min(left, 2**20)))
        output = repository.run(sys.executable, "-m", "dvc", "repro", stage, status=None)
        filler.unlink()
        problem = complaint(output, "No space left", "disk is full")
        problem = problem or completed(
            repository, [sys.executable, "-m", "dvc", "repro"], bench.results
        )
        return Trial(fault, "refused, then completed", problem)


def read_only_folders(bench: Bench, times: int) -> list[Callable[[], Trial]]:
    """A folder, or the whole project, that can't be written to."""
    return [partial(lock, bench, folder) for folder in FOLDERS for _ in range(max(1, times // 10))]


def lock(bench: Bench, name: str) -> Trial:
    stage = {
        "data": "fetch",
        ".": "fetch",
        "models": "train",
        "metrics": "train",
        "plots": "train",
    }[name]
    repository = before(bench, stage)
    folder = repository.folder / name
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "dvc", "repro"]
    with mounted(bench, "--bind", str(folder), at=folder):
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        output = repository.run(*words, status=None)
    problem = complaint(output, "Read-only file system")
    return Trial(
        "folder read-only",
        "refused, then completed",
        problem or completed(repository, words, bench.results),
    )


def before(bench: Bench, stage: str, into: Path | None = None) -> Repository:
    """A project in which all has run that comes before a stage."""
    repository = bench.copy(bench.bare, into)
    for earlier in STAGES[: STAGES.index(stage)][-1:]:
        repository.dvc("repro", "--quiet", earlier)
    return repository


@contextmanager
def mounted(bench: Bench, *arguments: str, at: Path | None = None) -> Iterator[Path]:
    """A file system at a folder, by default a new one, as long as the block lasts."""
    if at is None:
        at = bench.folder / f"disk-{next(bench.numbers)}"
        at.mkdir()
    result = subprocess.run(["mount", *arguments, at], capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(
            f"can't mount: {result.stderr.strip()}. Run it as root, or leave out these sections"
        )
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


# Damage


def damages(bench: Bench, _times: int) -> list[Callable[[], Trial]]:
    """Return trials with a byte flipped, the end cut off, or the file deleted.

    Each is done to every file of data, models, metrics, plots and DVC's cache.
    """
    chance = np.random.default_rng(2)
    start = bench.copy(bench.made)
    start.commit("Its results")  # so that Git knows them
    start.run(*MAKE)
    expected = outcome(start)
    cache = [
        str(path.relative_to(start.folder))
        for path in (start.folder / ".dvc/cache/files").rglob("*")
        if path.is_file()
    ]
    files = sorted(
        name for name in expected if (start.folder / name).is_file() and name != "models/README.md"
    ) + sorted(cache)
    return [
        partial(damage, bench, start, expected, name, kind, chance.random())
        for name in files
        for kind in ("byte flipped", "cut off", "deleted")
    ]


def damage(
    bench: Bench, start: Repository, expected: dict, name: str, kind: str, place: float
) -> Trial:
    repository = bench.copy(start)
    path = repository.folder / name
    content = path.read_bytes()
    at, mode = int(place * len(content)), path.stat().st_mode
    path.unlink()
    if kind != "deleted":
        path.write_bytes(
            content[:at]
            if kind == "cut off"
            else content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        )
        path.chmod(mode)
    in_cache = name.startswith(".dvc")
    shown = repository.run("git", "status", "--porcelain").strip()
    output = repository.run(*MAKE, status=None)
    ending, problem = "repaired by `make`", ""
    if "make: ***" in output:
        ending, problem = "refused with what to do", complaint(output, name)
        repository.run("git", "checkout", "--", ".")
        output = repository.run(*MAKE, status=None)
    elif shown and outcome(repository) != expected:
        ending = "shown by `git status`"
        repository.run("git", "checkout", "--", ".")
    where = "file damaged in DVC's cache" if in_cache else "file damaged in the workspace"
    if not problem:
        found = outcome(repository)
        if in_cache and kind != "deleted" and path.exists() and path.read_bytes() != content:
            output += repository.python("tools.fsck", "--all")  # nothing that dvc.lock names
        if in_cache and kind != "deleted" and name not in output:
            problem = f"{name} {kind}: not noticed"
        problem = problem or lost(repository, expected, found)
    shutil.rmtree(repository.folder)
    return Trial(f"{where}: {kind}", ending, problem and f"{name}: {problem}")


# Company


def two_at_once(bench: Bench, times: int) -> list[Callable[[], Trial]]:
    """A second command while a first one runs."""
    chance = np.random.default_rng(3)
    repro = [sys.executable, "-m", "dvc", "repro"]
    pairs = [
        (MAKE, MAKE),
        (repro, repro),
        (EXPERIMENTS, EXPERIMENTS),
        (repro, EXPERIMENTS),
        (EXPERIMENTS, repro),
    ]
    return [
        partial(together, bench, pair, chance.uniform(0, 15))
        for pair in pairs
        for _ in range(max(1, times // 10))
    ]


def together(bench: Bench, pair: tuple[list[str], list[str]], delay: float) -> Trial:
    repository = bench.copy(bench.built)
    shutil.rmtree(repository.folder / ".dvc/cache")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(repository.run, *pair[0], status=None)
        time.sleep(delay)
        second = pool.submit(repository.run, *pair[1], status=None)
        outputs = [first.result(), second.result()]
    refused = [
        output
        for output in outputs
        if re.search(r"make: \*\*\*|^ERROR|^experiments:", output, re.MULTILINE)
    ]
    problem = "neither completed" if len(refused) == 2 else ""
    for output in refused:
        problem = problem or complaint(
            output, "already running", "Unable to acquire lock", "is busy", "another DVC process"
        )
    ending = "the second refused" if refused else "both completed"
    return Trial(
        "two runs at once", ending, problem or completed(repository, EXPERIMENTS, bench.expected)
    )


# Downloads


def downloads(bench: Bench, times: int) -> list[Callable[[], Trial]]:
    """A web address that does not give what it should, with and without another source after it."""
    return [
        partial(download, bench, kind, alone)
        for kind in KINDS
        for alone in (False, True)
        for _ in range(max(1, times // 15))
    ]


def download(bench: Bench, kind: str, alone: bool) -> Trial:
    repository = bench.copy(bench.bare)
    files = read_dataset(repository.folder / "dataset.yaml").files
    contents = {file.name: (bench.drawings / file.name).read_bytes() for _, file in files}
    bound = sum(ASIDE[0] + len(content) / ASIDE[1] for content in contents.values()) + 30
    with faulty_server(contents) as address:
        sources = [f"{address}/{kind}"] + ([] if alone else [str(bench.drawings)])
        repository.set(f"sources={json.dumps(sources)}")
        begun = time.monotonic()
        output = repository.dvc("repro", "fetch", status=None)
        seconds = time.monotonic() - begun
    problem = (
        f"took {seconds:.0f} s"
        if seconds > bound
        else ""
        if f"{address}/{kind}: " in output
        else output
    )
    raw = repository.folder / "data/raw"
    found = {path.name: path.read_bytes() for path in raw.iterdir()} if raw.is_dir() else {}
    if found != ({} if alone else contents):
        problem = problem or f"data/raw holds {sorted(found)}"
    if alone:
        problem = problem or complaint(output, "no source has")
    ending = "refused with what to do" if alone else "taken from the next source"
    return Trial(f"web server: {kind}", ending, problem)


SECTIONS = {
    "kills": kills,
    "long_kills": long_kills,
    "full_disks": full_disks,
    "read_only_folders": read_only_folders,
    "damages": damages,
    "two_at_once": two_at_once,
    "downloads": downloads,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", metavar="SECTION", nargs="+", choices=SECTIONS, default=list(SECTIONS)
    )
    parser.add_argument(
        "--times",
        metavar="N",
        type=positive_int,
        default=30,
        help="kills of each command; others in proportion",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive_int,
        default=cpu_count(),
        help="trials at the same time",
    )
    arguments = parser.parse_args()
    sections = json.loads(RESULT.read_text())["sections"] if RESULT.exists() else {}
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        ExitStack() as stack,
        ThreadPoolExecutor(arguments.jobs) as pool,
    ):
        bench = Bench(Path(folder), stack)
        for section in arguments.only:
            trials = list(pool.map(carried_out, SECTIONS[section](bench, arguments.times)))
            sections[section] = summary(trials)
            write_json(
                RESULT,
                {
                    "environment": describe_environment() | {"cores": cpu_count()},
                    "sections": sections,
                },
            )
            for trial in trials:
                if trial.losses:
                    print(f"LOST {trial.fault}: {trial.losses}", flush=True)
    table = [row for rows in sections.values() for row in rows]
    print(pd.DataFrame(table).to_markdown(index=False))
    if any(row["losses"] for row in table):
        raise UserError("something was lost; the lines above say what")


def carried_out(trial: Callable[[], Trial]) -> Trial:
    done = trial()
    print(f"{done.fault}: {done.ending}{': LOST' if done.losses else ''}", flush=True)
    return done


def summary(trials: list[Trial]) -> list[dict]:
    """For each fault: how often, how each ended, how many lost anything."""
    rows = []
    for fault, group in itertools.groupby(
        sorted(trials, key=lambda trial: trial.fault), key=lambda trial: trial.fault
    ):
        group = list(group)
        endings = pd.Series([trial.ending for trial in group]).value_counts()
        rows.append({
            "fault": fault,
            "times": len(group),
            "ending": ", ".join(f"{ending} ({count})" for ending, count in endings.items()),
            "losses": sum(bool(trial.losses) for trial in group),
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    with exit_on_user_error("faults"):
        main()
