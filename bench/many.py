"""Many experiments and many commits, for the sections of bench/speed.py with these names.

Experiments: the real pipeline and data, with a stub in the place of training, so that what is left
is the cost around it: DVC, the workspace, imports, scores and pictures. Commits: the commands that
look at experiments, in a repository with many of both.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.support.repository import Repository
from tools.git import experiment_ref, local_clone

# as stages/train.py, but that the weights are always those of the committed model: a comment at the
# end of the file makes it another one, so that DVC does not take its scores from the cache
STUB = '''"""Stub: the files that training writes, without training."""

import shutil
import zipfile
from pathlib import Path

from fashion.core.params import Params
from stages.pipeline import StagePaths, run


def train(params: Params, files: StagePaths) -> None:
    for name in ("model.keras", "history.csv", "train.json", "environment.json"):
        files[name].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path({trained!r}, name), files[name])
    with zipfile.ZipFile(files["model.keras"], "a") as file:
        file.comment = str(params.seed).encode()


if __name__ == "__main__":
    run(train)
'''
TRAINED = [
    "models/model.keras",
    "plots/history.csv",
    "metrics/train.json",
    "metrics/environment.json",
]
COMMANDS = {
    "`dvc exp show`": ("dvc", "exp", "show"),
    "`dvc exp show --all-commits`": ("dvc", "exp", "show", "--all-commits"),
    "`make report`": ("tools.report",),
    "`make check`": ("tools.gate.check", "--baseline", "HEAD"),
}


def stub_project(folder: Path) -> Repository:
    """Copy the project that this runs in, whose pipeline has run, into a repository of one commit.

    Its training is a stub, and has run.
    """
    trained = folder / "trained"
    trained.mkdir()
    for path in map(Path, TRAINED):
        shutil.copy(path, trained)
    local_clone(folder / "project")
    project = Repository(folder / "project")
    shutil.rmtree(project.folder / ".git")  # the commits of the project are not those to be counted
    project.run("git", "init", "--quiet", "--initial-branch=main")
    (project.folder / "stages/train.py").write_text(STUB.format(trained=str(trained)))
    project.commit("Training is a stub")
    project.dvc("repro", FASHION_MNIST_DIR=str(Path("data/raw").resolve()))
    project.commit("Its results")
    return project


def experiments(project: Repository, count: int) -> dict[str, float]:
    """Run so many new experiments, as `make experiments` does; return all their seconds."""
    chosen = ", ".join(f"stub-{count}-{i}: {{seed: {1000 * count + i}}}" for i in range(count))
    project.set(f"groups={{stub: {{{chosen}}}}}")
    project.commit(f"{count} experiments")
    start, before = time.perf_counter(), children_seconds()
    project.run(sys.executable, "-m", "tools.experiments", "--group", "stub")
    return {"seconds": time.perf_counter() - start, "cpu": children_seconds() - before}


def grow(project: Repository, commits: int, count: int) -> None:
    """Add so many commits and, to the last of them, so many experiments.

    Those are copies of the first one that there is, each with a seed of its own.
    """
    identity = "committer Test <test@example.com>"
    stream = "".join(
        f"commit refs/heads/main\n{identity} {1_700_000_000 + i} +0000\n"
        f"data <<END\nCommit {i}\nEND\nfrom refs/heads/main^0\n\n"
        for i in range(commits)
    )
    fast_import(project, stream)
    listing = ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/*/*/stub-*"]
    first = project.run(*listing).split()[0]
    tree = project.run("git", "rev-parse", f"{first}^{{tree}}").strip()
    params = project.run("git", "show", f"{first}:params.yaml")
    head = project.run("git", "rev-parse", "HEAD").strip()
    stream = ""
    for i in range(count):
        changed = re.sub(r"^seed: .*$", f"seed: {1_000_000 + i}", params, flags=re.MULTILINE)
        stream += (
            f"commit {experiment_ref(head, f'copy-{i}')}\n{identity} {1_800_000_000 + i} +0000\n"
            f"data <<END\nExperiment {i}\nEND\nfrom {head}\n"
            f'M 040000 {tree} ""\nM 100644 inline params.yaml\n'
            f"data {len(changed.encode())}\n{changed}\n"
        )
    fast_import(project, stream)


def fast_import(project: Repository, stream: str) -> None:
    words = ["git", "fast-import", "--quiet"]
    subprocess.run(words, cwd=project.folder, input=stream, text=True, check=True)


def looks(project: Repository, repetitions: int) -> dict[str, list[float]]:
    """Time the commands that look at experiments, by command; each is once run before."""
    taken = {name: [] for name in COMMANDS}
    for repetition in range(repetitions + 1):
        for name, words in COMMANDS.items():
            start = time.perf_counter()
            project.run(sys.executable, "-m", *words)
            if repetition:
                taken[name].append(time.perf_counter() - start)
                print(f"{name}, {repetition} of {repetitions}: {taken[name][-1]}", flush=True)
    return taken


def children_seconds() -> float:
    """CPU seconds of all commands that have ended, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system
