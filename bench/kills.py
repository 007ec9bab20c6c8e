"""Kills of commands that run for long, on the toy pipeline, at random moments.

Part of bench/fault_injection.py: sweeps, checks that run further seeds, and experiments on a Ray
cluster. Each is killed with all that it has started; then the same command must complete, with what
an undisturbed one leaves and says, and nothing of the killed one may be left.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import psutil

from tests.support.ray_cluster import publish, ray_cluster
from tests.support.repository import Repository, toy_project

SECONDS = 0.3  # an epoch, so that there are some in which a command can be killed
SWEEP = """sweeps={small: {
  metric: val_accuracy, trials: 4, jobs: 2, seed: 1, sampler: random, prune: false,
  space: {train.learning_rate: {low: 0.0001, high: 0.1, log: true}},
}}"""
METRICS = "metrics={accuracy: {better: higher, margin: 0.015, floor: 0.1}}"
A_BIT_WORSE = "train.learning_rate=0.0013"  # which one seed can't tell from chance
EXPERIMENTS = "experiments={a: {seed: 1}, b: {seed: 2}, c: {seed: 3}, d: {seed: 4}}"
TEMPORARY = (
    ".dvc/tmp/baseline-*",
    ".dvc/tmp/candidate-*",
    ".dvc/tmp/experiments/clones-*",
    "**/*.part*",
)


@dataclass
class Trial:
    """One fault: what was done, how it ended in a word, and what was lost, if anything."""

    fault: str
    ending: str
    losses: str = ""


def kill_all(process: psutil.Popen, folder: Path) -> None:
    """Kill the process and its descendants, then whatever is left working in the folder."""
    victims = [process, *process.children(recursive=True)] if process.is_running() else []
    while victims:
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        process.wait()
        psutil.wait_procs(victims[1:], timeout=5)
        everyone = psutil.process_iter(["cwd"])
        victims = [one for one in everyone if Path(one.info["cwd"] or "/").is_relative_to(folder)]


class Killer:
    """Kills a command in copies of a project, and compares what comes of them."""

    def __init__(self, project: Repository, command: str, *words: str, status: int = 0):
        self.project, self.command, self.words, self.status = project, command, words, status
        self.numbers = count()
        undisturbed = self.copy()
        begun = time.monotonic()
        self.said = self.complete(undisturbed)
        self.seconds = time.monotonic() - begun
        self.expected = remains(undisturbed)

    def copy(self) -> Repository:
        folder = self.project.folder
        return self.project.copy(folder.with_name(f"{folder.name}-{next(self.numbers)}"))

    def complete(self, repository: Repository) -> str:
        """Run the command; return its verdict, where it is one that judges."""
        output = repository.python(*self.words, status=self.status)
        return "".join(line for line in output.splitlines() if line.startswith("### "))

    def trials(self, times: int, chance: np.random.Generator) -> list[Callable[[], Trial]]:
        return [partial(self.kill, chance.uniform(0, self.seconds)) for _ in range(times)]

    def kill(self, moment: float) -> Trial:
        repository = self.copy()
        with tempfile.TemporaryFile() as log:
            process = psutil.Popen(
                [sys.executable, "-m", *self.words],
                cwd=repository.folder, env=repository.env(), stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            with suppress(psutil.TimeoutExpired):
                process.wait(moment)
            kill_all(process, repository.folder)
        fault = f"`{self.command}` killed"
        try:
            said = self.complete(repository)
        except AssertionError as error:
            return Trial(fault, "failed", str(error))
        found = remains(repository)
        losses = sorted(
            path for path in self.expected | found if self.expected.get(path) != found.get(path)
        )
        if said != self.said:
            losses.append(f"says {said} instead of {self.said}")
        return Trial(fault, "completed by the same command", ", ".join(losses))


def remains(repository: Repository) -> dict[str, bytes]:
    """Return results, experiments as Git keeps them, and temporary files, which should be none.

    Records of the environment and the table of trials' seconds are left out.
    """
    found = repository.results()
    for line in repository.run(
        "git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps"
    ).splitlines():
        revision, name = line.split(" ")
        for entry in repository.run("git", "ls-tree", "-r", revision).splitlines():
            content, path = entry.split("\t")
            found[f"{name}: {path}"] = content.encode()
    for pattern in TEMPORARY:
        found |= {str(path): b"" for path in repository.folder.glob(pattern)}
    return {
        path: content
        for path, content in found.items()
        if not path.endswith(("metrics/environment.json", ": .dvc/config"))
    }


def sweep(folder: Path) -> Killer:
    project = slow_toy(folder / "sweep")
    project.set(SWEEP)
    project.commit("A sweep")
    return Killer(project, "make sweep", "tools.experiments.sweep")


def check(folder: Path) -> Killer:
    """One that has to run further seeds."""
    project = slow_toy(folder / "check")
    project.set(METRICS)
    project.commit("Rules")
    project.python("tools.gate.noise", "--seeds", "5")
    project.commit("Noise")
    project.set(A_BIT_WORSE)
    project.dvc("repro", "--quiet")
    project.commit("A bit worse")
    killer = Killer(project, "make check", "tools.gate.check", "--baseline", "HEAD~1")
    assert killer.said, "check does not judge"
    return killer


@contextmanager
def cluster(folder: Path) -> Iterator[Killer]:
    project = slow_toy(folder / "cluster" / "project")
    project.set(EXPERIMENTS, "ray={cpus: 1, gpus: 0}")
    publish(project, project.folder.parent)
    with ray_cluster(folder, nodes=2) as (address, _):
        yield Killer(project, "make experiments --ray", "tools.experiments", "--ray", address)


def slow_toy(folder: Path) -> Repository:
    folder.mkdir(parents=True)
    project = toy_project(folder)
    project.slow_training(SECONDS)
    project.dvc("repro", "--quiet")
    project.commit("Its results")
    return project
