"""Measure what an experiment costs besides its training: `python -m bench.scaling`.

`--experiments N` runs N experiments of this project, as many at a time as this machine has cores,
with a stub that copies the files of one training. `--trials N --nodes K` runs a sweep of N trials
of the toy pipeline on a Ray cluster of K nodes, all on this machine: a node has one CPU and runs
one trial at a time, whose training sleeps for 0.6 seconds. Both remotes are folders. The CPU
seconds of trials are those of the whole machine, so nothing else should run. Writes
bench/results/scaling.json, and keeps the results of other numbers there.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from joblib import cpu_count

from bench.fault_injection import SWEEP, slow_toy
from bench.measure import Groups, Rivals, Rows, clone, measure, record, table
from fashion.core.strict_yaml import read_yaml
from tests.support.ray_cluster import publish, ray_cluster
from tests.support.repository import Repository, write_yaml
from tools.arguments import parser_of, positive_int
from tools.process import command_line

TRAINED = "models/model.keras metrics/train.json plots/history.csv"


def experiments(number: int) -> Rivals:
    """Run experiments that differ in their seed, and return what each cost."""
    with clone("plot") as folder:
        project, definition = Repository(folder), folder / "dvc.yaml"
        seeds = ", ".join(f"stub-{i}: {{seed: {1000 + i}}}" for i in range(number))
        project.set(f"groups={{stub: {{{seeds}}}}}")
        pipeline = read_yaml(definition)
        pipeline["stages"]["train"]["cmd"] = (
            f"cd {folder} && cp --parents {TRAINED} $OLDPWD && cd $OLDPWD"
            " && grep ^seed: params.yaml >> models/model.keras"  # so that DVC keeps another file
        )
        write_yaml(definition, pipeline)
        project.dvc("commit", "--force", "--quiet")
        project.commit("Training is a stub")
        return per_run(number, measure(folder, "-m", "tools.experiments", "--group", "stub"))


def trials(number: int, nodes: int) -> Rivals:
    """Run a sweep on a Ray cluster, and return what each trial cost."""
    with TemporaryDirectory(prefix="scaling-") as name:
        folder = Path(name)
        project = slow_toy(folder / "project")
        project.set(SWEEP, f"sweeps.small.trials={number}", f"sweeps.small.jobs={nodes}")
        project.set("ray={cpus: 1, gpus: 0}")
        publish(project, folder)
        with ray_cluster(folder, nodes) as (address, _):
            before = machine_cpu_seconds()
            cost = measure(project.folder, "-m", "tools.experiments.sweep", "--ray", address)
            cost["CPU seconds"] = machine_cpu_seconds() - before
    return per_run(number, cost)


def machine_cpu_seconds() -> float:
    """Return the CPU seconds that all processes of this machine have used."""
    return sum(psutil.cpu_times()[:3])  # user, nice and system


def per_run(number: int, cost: dict[str, float]) -> Rivals:
    return {"": {f"{key} each": [cost[key] / number] for key in ("seconds", "CPU seconds")}}


def to_tables(sections: Groups) -> dict[str, Rows]:
    return {"scaling": table(sections)}


def main() -> None:
    parser = parser_of("scaling", __doc__)
    number = {"metavar": "N", "type": positive_int}
    parser.add_argument("--experiments", **number, help="run N on this machine")
    parser.add_argument("--trials", **number, help="run a sweep of N on a Ray cluster")
    parser.add_argument("--nodes", **number, default=2, help="of the cluster (default: 2)")
    arguments = parser.parse_args()
    if not (arguments.experiments or arguments.trials):
        parser.error("nothing to measure. Give --experiments N, --trials N or both")
    if count := arguments.experiments:
        section = f"{count:,} experiments on {cpu_count()} cores"
        record("scaling", section, experiments(count), to_tables)
    if count := arguments.trials:
        section = f"{count:,} trials on {arguments.nodes} node{'s' * (arguments.nodes > 1)}"
        record("scaling", section, trials(count, arguments.nodes), to_tables)


if __name__ == "__main__":
    with command_line("scaling"):
        main()
