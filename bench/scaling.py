"""What a trial on a Ray cluster costs beside its training: `python -m bench.scaling`

A sweep whose training is a stub, which sleeps and writes the files that training would, runs on
clusters of one-CPU nodes, all on this machine, with a Git and a DVC remote in folders. Overhead is
what a trial takes, from Optuna's proposal to its result, beyond that sleep. Prints a table, for
docs/scaling.md.
"""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pandas as pd
import psutil

from fashion.core.errors import exit_on_user_error
from tests.support.ray_cluster import publish, ray_cluster
from tests.support.repository import Repository, toy_project
from tools.arguments import positive_int
from tools.experiments.study import STORAGE

SLEEP, EPOCHS = 0.5, 2  # seconds an epoch; epochs
SWEEP = """sweeps={stub: {
  metric: val_accuracy, trials: 1, jobs: 1, seed: 1, sampler: random, prune: false, fixed: {},
  space: {seed: {low: 0, high: 1000000}, train.learning_rate: {low: 0.0001, high: 0.1, log: true}},
}}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--trials", metavar="N", type=positive_int, default=1000)
    parser.add_argument("--nodes", metavar="N", type=positive_int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    rows = []
    with TemporaryDirectory(prefix="scaling-") as folder:
        project = prepared(Path(folder, "project"))
        for nodes in arguments.nodes:
            rows.append(measure(project, Path(folder, f"on-{nodes}"), nodes, arguments.trials))
            print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"))


def prepared(folder: Path) -> Repository:
    """Return a toy project, committed with its results; its training waits."""
    repository = toy_project(folder)
    repository.slow_training(SLEEP)
    repository.set(f"train.epochs={EPOCHS}")
    repository.dvc("repro")
    repository.commit("Slow training")
    return repository


def measure(project: Repository, folder: Path, nodes: int, trials: int) -> dict[str, float]:
    repository = project.copy(folder / "project")
    repository.set(
        SWEEP, f"sweeps.stub.trials={trials}", f"sweeps.stub.jobs={nodes}", "ray={cpus: 1, gpus: 0}"
    )
    publish(repository, folder)
    with ray_cluster(folder, nodes) as (address, _):
        start, busy = time.perf_counter(), cpu_seconds()
        repository.python("tools.experiments.sweep", "--ray", address)
        seconds, busy = time.perf_counter() - start, cpu_seconds() - busy
    ended = optuna.load_study(
        study_name="stub", storage=f"sqlite:///{repository.folder / STORAGE}"
    ).trials
    each = [(trial.datetime_complete - trial.datetime_start).total_seconds() for trial in ended]
    span = max(trial.datetime_complete for trial in ended) - min(
        trial.datetime_start for trial in ended
    )
    return {
        "nodes": nodes,
        "trials": trials,
        "trials a minute": 60 * trials / span.total_seconds(),
        "overhead a trial, seconds": statistics.mean(each) - SLEEP * EPOCHS,
        "CPU seconds a trial": busy / trials,
        "the whole, minutes": seconds / 60,
    }


def cpu_seconds() -> float:
    """What all processes of this machine have used, which should have nothing else to do."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


if __name__ == "__main__":
    with exit_on_user_error("scaling"):
        main()
