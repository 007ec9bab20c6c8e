"""What a trial on a Ray cluster costs beside its training: `python -m bench.scaling`

A sweep whose training is a stub, which sleeps and writes the files that training would, runs on clusters of one-CPU nodes, all
on this machine, with a Git and a DVC remote in folders. Overhead is how long a node is busy with a trial beyond that sleep.
Prints a table, for docs/scaling.md; a thousand trials take two cores about an hour.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from bench.ray_cluster import publish, ray_cluster
from bench.repository import Repository, small_project
from fashion.errors import reported
from stages.params import read_params
from tools.demo import draw_data_set
from tools.experiments import positive

SLEEP, EPOCHS = 0.5, 2  # seconds an epoch; epochs
SWEEP = """sweep={stub: {
  metric: val_accuracy, trials: 1, jobs: 1, seed: 1, sampler: random, prune: false, fixed: {},
  space: {seed: {low: 0, high: 1000000}, train.learning_rate: {low: 0.0001, high: 0.1, log: true}},
}}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--trials", metavar="N", type=positive, default=1000)
    parser.add_argument("--nodes", metavar="N", type=positive, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    rows = []
    with TemporaryDirectory(prefix="scaling-") as folder:
        project = prepared(Path(folder, "project"), Path(folder, "drawings"))
        for nodes in arguments.nodes:
            rows.append(measure(project, Path(folder, f"on-{nodes}"), nodes, arguments.trials))
            print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"))


def prepared(folder: Path, drawings: Path) -> Repository:
    """A small project whose training is the stub, committed with its results."""
    draw_data_set(read_params().data.files, drawings, training=1200, test=400)
    repository = small_project(folder, drawings)
    repository.dvc("repro")  # as a whole once: a sweep reads the metrics of evaluate too, which the stub leaves as they are
    repository.stub_training(SLEEP)
    repository.set_params(f"train.epochs={EPOCHS}")
    repository.dvc("repro")
    repository.commit("Stub training")
    return repository


def measure(project: Repository, folder: Path, nodes: int, trials: int) -> dict[str, float]:
    repository = project.copy(folder / "project")
    repository.set_params(SWEEP, f"sweep.stub.trials={trials}", f"sweep.stub.jobs={nodes}", "ray={cpus: 1, gpus: 0}")
    publish(repository, folder)
    with ray_cluster(folder, nodes) as (address, _):
        start = time.perf_counter()
        repository.python("tools.sweep", "--ray", address)
        seconds = time.perf_counter() - start
    overhead = seconds * nodes / trials - SLEEP * EPOCHS
    return {"nodes": nodes, "trials": trials, "minutes": seconds / 60, "trials a minute": 60 * trials / seconds,
            "overhead a trial, seconds": overhead}  # fmt: skip


if __name__ == "__main__":
    with reported("scaling"):
        main()
