"""Check that every x86-64 CPU computes the same bytes: `make portable`.

Runs the stages on a small synthetic data set, on this CPU and on emulated ones, on one core and on
two, and compares every output with that of the run on one core of this CPU. The models are those of
experiments.yaml with all their layers, trained for two epochs. Writes bench/results/portable.csv.
Exit status 1 if any output differs, 2 without the emulator.

It takes 15 minutes on two fast cores, and over an hour on others. The emulator is QEMU's user mode
(Debian: qemu-user-static). It can't emulate AVX-512, so run this on a CPU that has it.
"""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from joblib import cpu_count

from bench.measure import RESULTS
from fashion.core.environment import THREADS
from fashion.core.errors import UserError
from fashion.core.files import write_csv
from fashion.core.params import PARAMS
from tests.support.repository import STAGES, Repository, small_project
from tools.arguments import parser_of
from tools.demo import write_synthetic_data
from tools.experiments.config import read_experiments
from tools.overrides import write_params
from tools.process import command_line

EMULATOR = "qemu-x86_64-static"
NATIVE = "native"
CPUS = ["Haswell-noTSX", "EPYC-Rome"]  # Intel's of 2013 and AMD's of 2019, both with AVX2
MODELS = ["run-1", "mlp-best", "cnn-small"]
SMALL = {
    "model.hidden_units": [784, 392, 196, 49],
    "prepare.validation_size": 100,
    "train.epochs": 2,
    "train.batch_size": 128,
}
CARD = "README.md"  # of the data and of the model: not outputs


def main() -> int:
    parser = parser_of("portable", __doc__)
    runs = read_experiments()
    models = runs.experiments | runs.groups["models"]
    parser.add_argument("--models", metavar="NAME", nargs="+", choices=models, default=MODELS)
    parser.add_argument("--cpus", metavar="NAME", nargs="+", default=CPUS, help="of QEMU")
    arguments = parser.parse_args()
    if not shutil.which(EMULATOR):
        parser.error(f"{EMULATOR} is not installed. Debian's package qemu-user-static has it")
    table, differences = compare({name: models[name] for name in arguments.models}, arguments.cpus)
    print("\n".join([*differences, table.to_markdown(index=False)]))
    if (arguments.models, arguments.cpus) == (MODELS, CPUS):
        write_csv(RESULTS / "portable.csv", table)
    return int(bool(differences))


def compare(models: dict[str, dict], cpus: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return a row for each run with its equal outputs by model, and a line for each other output.

    Outputs are compared with those of the first run, on one core of this CPU.
    """
    counts, differences = {}, []
    with TemporaryDirectory(prefix="portable-") as name, ThreadPoolExecutor(cpu_count()) as pool:
        folder, data = Path(name), Path(name, "data")
        write_synthetic_data(data, training=700, test=200)
        runs = [(cpu, threads) for cpu in (NATIVE, *cpus) for threads in (1, 2)]
        for model, overrides in models.items():
            project = small_project(folder / model, data)
            write_params(overrides | SMALL, project.folder / PARAMS)
            ended = pool.map(lambda run, project=project: outputs(project, *run), runs)
            first = next(ended)
            for (cpu, threads), found in zip(runs[1:], ended, strict=True):
                run = f"{cpu}, {threads} thread{'s' * (threads > 1)}"
                paths = sorted(first.keys() | found.keys())
                unequal = [path for path in paths if first.get(path) != found.get(path)]
                differences += [f"{model}, {run}: {path} differs" for path in unequal]
                row = counts.setdefault(run, {"run": run})
                row[model] = f"{len(paths) - len(unequal)} of {len(paths)}"
                print(f"{model}, {run}: {row[model]} outputs are equal", flush=True)
    return pd.DataFrame(counts.values()), differences


def outputs(project: Repository, cpu: str, threads: int) -> dict[str, bytes]:
    """Run the stages in a copy of the project, and return their outputs by path.

    `cpu` is NATIVE or QEMU's name of one. Raises UserError with the last lines if a stage fails.
    """
    words = ["taskset", "--cpu-list", f"0-{threads - 1}"]
    words += [] if cpu == NATIVE else [EMULATOR, "-cpu", cpu]
    with TemporaryDirectory(dir=project.folder.parent) as folder:
        copy = project.copy(Path(folder, "project"))
        for stage in STAGES[1:]:  # validate computes nothing
            try:
                copy.run(*words, sys.executable, "-m", f"stages.{stage}", **{THREADS: str(threads)})
            except AssertionError as error:
                raise UserError(f"{cpu}: {str(error)[-2000:]}") from None
        return {path: b for path, b in copy.results().items() if not path.endswith(CARD)}


if __name__ == "__main__":
    with command_line("portable"):
        sys.exit(main())
