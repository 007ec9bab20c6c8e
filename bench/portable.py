"""Does every x86-64 CPU make the same bytes?  `make portable` (`python -m bench.portable`)

Runs the project's stages on a small synthetic data set, natively and on emulated CPUs, with one
thread and with two, and compares every output with that of the native run with one thread. The
models are those of experiments.yaml with all their layers, trained for two epochs. Writes
bench/results/portable.csv. Exit status 1 if any output differs, 2 without the emulator.

It takes a quarter of an hour on two cores. The emulator is QEMU's user mode (Debian:
qemu-user-static). It has no AVX-512: the machine that it runs on must have that.
"""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from joblib import cpu_count

from bench.measure import RESULTS, cpu_model
from fashion.core.dataset import DATASET, read_dataset
from fashion.core.environment import THREADS, environment
from fashion.core.errors import UserError
from fashion.core.files import write_csv
from fashion.core.params import PARAMS
from tests.support.repository import PROJECT, Repository, small_project
from tools.arguments import parser_of
from tools.demo import write_synthetic_data
from tools.experiments.config import read_experiments
from tools.overrides import write_params
from tools.process import command_line

EMULATOR = "qemu-x86_64-static"
NATIVE = "native"
CPUS = ["Haswell-noTSX", "EPYC-Rome"]  # Intel of 2013 and AMD of 2019, both with AVX2
MODELS = ["run-1", "mlp-best", "cnn-small"]
STAGES = ["fetch", "prepare", "train", "evaluate", "plot"]
SMALL = {
    "model.hidden_units": [784, 392, 196, 49],
    "prepare.validation_size": 100,
    "train.epochs": 2,
    "train.batch_size": 128,
}
NOT_COMPARED = "models/README.md"  # no output


def main() -> int:
    parser = parser_of("portable", __doc__)
    runs = read_experiments()
    models = runs.experiments | runs.groups["models"]
    parser.add_argument("--models", metavar="NAME", nargs="+", choices=models, default=MODELS)
    parser.add_argument("--cpus", metavar="NAME", nargs="+", default=CPUS, help="of QEMU")
    arguments = parser.parse_args()
    if not shutil.which(EMULATOR):
        parser.error(f"{EMULATOR} is not installed. Debian's package qemu-user-static has it")
    table = compare({name: models[name] for name in arguments.models}, arguments.cpus)
    print(f"{environment().get('environment', 'portable arithmetic')} on {cpu_model()}\n")
    for _, row in table[~table["equal"]].iterrows():
        print(f"{row['model']}, {row['run']}: {row['output']} differs")
    counts = table.groupby(["run", "model"], sort=False)["equal"].agg(["sum", "size"])
    texts = (counts["sum"].astype(str) + " of " + counts["size"].astype(str)).unstack()
    summary = texts.reindex(table["run"].unique())[arguments.models].reset_index()
    print(summary.to_markdown(index=False))
    if (arguments.models, arguments.cpus) == (MODELS, CPUS):
        write_csv(RESULTS / "portable.csv", summary)
    return int(not table["equal"].all())


def compare(models: dict[str, dict], cpus: list[str]) -> pd.DataFrame:
    """Return a row for each output of each run: model, run, output, and whether it is equal.

    It is compared with that of the first run, the native one with one thread.
    """
    rows = []
    with TemporaryDirectory(prefix="portable-") as name, ThreadPoolExecutor(cpu_count()) as pool:
        folder, data = Path(name), Path(name, "data")
        write_synthetic_data(read_dataset(PROJECT / DATASET).files, data, training=700, test=200)
        runs = [(cpu, threads) for cpu in (NATIVE, *cpus) for threads in (1, 2)]
        for model, overrides in models.items():
            project = small_project(folder / model, data)
            write_params(overrides | SMALL, project.folder / PARAMS)
            first, *others = pool.map(lambda run, project=project: outputs(project, *run), runs)
            for (cpu, threads), found in zip(runs[1:], others, strict=True):
                run = f"{cpu}, {threads} thread{'s' * (threads > 1)}"
                for path in sorted(first.keys() | found.keys()):
                    equal = first.get(path) == found.get(path)
                    rows.append({"model": model, "run": run, "output": path, "equal": equal})
    return pd.DataFrame(rows)


def outputs(project: Repository, cpu: str, threads: int) -> dict[str, bytes]:
    """Run the stages in a copy of the project; return their outputs by path.

    Raises UserError with the last lines if a stage fails.
    """
    words = ["taskset", "--cpu-list", f"0-{threads - 1}"]
    words += [] if cpu == NATIVE else [EMULATOR, "-cpu", cpu]
    env = {THREADS: str(threads)}
    with TemporaryDirectory(dir=project.folder.parent) as folder:
        copy = project.copy(Path(folder, "project"))
        for stage in STAGES:
            try:
                copy.run(*words, sys.executable, "-m", f"stages.{stage}", **env)
            except AssertionError as error:
                raise UserError(f"{cpu}: {str(error)[-2000:]}") from None
        return {path: b for path, b in copy.results().items() if path != NOT_COMPARED}


if __name__ == "__main__":
    with command_line("portable"):
        sys.exit(main())
