"""What many experiments cost, and many commits?  `python -m bench.many`

Experiments: the real pipeline and data, with a stub in the place of training, so that what is left
is the cost around it: DVC, the workspace, imports, scores and pictures. Commits: the commands that
look at experiments, in the repository with the most of them and 1,000 commits. Prints two tables;
it takes half an hour.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from fashion.errors import UserError, exit_on_user_error
from tests.support.repository import Repository
from tools.arguments import positive_int
from tools.git import local_clone

# as stages/train.py, but that the weights are always those of the committed model: a comment at the
# end of the file makes it another one, so that DVC does not take its scores from the cache
STUB = '''"""Stub: the files that training writes, without training."""

import shutil
import zipfile
from pathlib import Path

from stages.params import Params
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="many", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--experiments", metavar="N", type=positive_int, nargs="+", default=[3, 12, 48, 200]
    )
    parser.add_argument("--commits", metavar="N", type=positive_int, default=1000)
    parser.add_argument("--repetitions", metavar="N", type=positive_int, default=3)
    arguments = parser.parse_args()
    raw = Path("data/raw").resolve()
    if not all(path.exists() for path in [raw, *map(Path, TRAINED)]):
        raise UserError("there is no data or no model here yet. `dvc repro` makes them")
    with TemporaryDirectory(prefix="many-") as folder:
        project = prepared(Path(folder), raw, arguments.commits)
        around = [experiments(project, count) for count in arguments.experiments]
        print(pd.DataFrame(around).to_markdown(index=False, floatfmt=".1f"), "\n")
        looks = commands(project, arguments.repetitions)
    print(pd.DataFrame(looks).to_markdown(index=False, floatfmt=".1f"))


def prepared(folder: Path, raw: Path, commits: int) -> Repository:
    """Return a clone of the last commit whose training is a stub, with so many commits more."""
    trained = folder / "trained"
    trained.mkdir()
    for path in map(Path, TRAINED):
        (trained / path.name).write_bytes(path.read_bytes())
    local_clone(folder / "project")
    project = Repository(folder / "project")
    project.run("git", "checkout", "--quiet", "-B", "main")
    project.run("git", "remote", "remove", "origin")
    (project.folder / "stages/train.py").write_text(STUB.format(trained=str(trained)))
    project.dvc("repro", FASHION_MNIST_DIR=str(raw))
    project.commit("Training is a stub")
    stream = "".join(
        f"commit refs/heads/main\ncommitter Test <test@example.com> {1_700_000_000 + i} +0000\n"
        f"data <<END\nCommit {i}\nEND\nfrom refs/heads/main^0\n\n"
        for i in range(commits)
    )
    subprocess.run(
        ["git", "fast-import", "--quiet"],
        cwd=project.folder,
        input=stream,
        text=True,
        check=True,
    )
    return project


def experiments(project: Repository, count: int) -> dict[str, float]:
    """Run so many new experiments, as `make experiments` does."""
    chosen = ", ".join(f"stub-{count}-{i}: {{seed: {1000 * count + i}}}" for i in range(count))
    project.set(f"groups={{stub: {{{chosen}}}}}")
    project.commit(f"{count} experiments")
    start, busy = time.perf_counter(), children_seconds()
    project.python("tools.experiments", "--group", "stub")
    seconds = time.perf_counter() - start
    row = {
        "experiments": count,
        "seconds each": seconds / count,
        "CPU seconds each": (children_seconds() - busy) / count,
    }
    print(row, flush=True)
    return row


def commands(project: Repository, repetitions: int) -> list[dict]:
    """Time the commands that look at experiments; each is once run before."""
    rows = []
    for name, words in {
        "dvc exp show": ("dvc", "exp", "show"),
        "dvc exp show --all-commits": ("dvc", "exp", "show", "--all-commits"),
        "make report": ("tools.report",),
        "make check": ("tools.gate.check", "--baseline", "HEAD~1"),
    }.items():
        taken = []
        for _ in range(repetitions + 1):
            start = time.perf_counter()
            project.run(sys.executable, "-m", *words, status=None)
            taken.append(time.perf_counter() - start)
        rows.append({"command": name, "seconds": statistics.median(taken[1:])})
        print(rows[-1], flush=True)
    return rows


def children_seconds() -> float:
    """CPU seconds of all commands that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    with exit_on_user_error("many"):
        main()
