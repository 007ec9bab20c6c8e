"""Does every x86-64 CPU make the same bytes?  `make portable` (`python -m bench.portable`)

Runs the project's own stages on a small drawn data set, natively and on emulated CPUs, with one
thread and with two, and compares every output with that of the native run with one thread. The
models are those of experiments.yaml with all their layers, trained for two epochs. Prints a table,
writes metrics/portable.csv, from which the README's is made, and exits with 1 where any output
differs: `ONEDNN_MAX_CPU_ISA=DEFAULT make portable` shows that, on a machine with AVX-512.

An emulated CPU needs a minute to import TensorFlow: a quarter of an hour on two cores. The
emulator is QEMU's user mode (Debian: qemu-user-static); without it, the exit status is 2. It has no
AVX-512: the machine that it runs on has to bring that.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from joblib import cpu_count

from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.files import write_csv
from fashion.model.environment import cpu_model, native_arithmetic
from tests.support.repository import PROJECT, Repository, small_project
from tools.demo import draw_data_set
from tools.experiments.config import read_experiments

RESULT = Path("metrics/portable.csv")
EMULATOR = "qemu-x86_64-static"
CPUS = ["Haswell-noTSX", "EPYC-Rome"]  # Intel of 2013 and AMD of 2019, both with AVX2
THREADS = [1, 2]
STAGES = ["fetch", "prepare", "train", "evaluate", "plot"]
SMALL = [
    "model.hidden_units=[784, 392, 196, 49]",
    "prepare.validation_size=100",
    "train.epochs=2",
    "train.batch_size=128",
]


@dataclass(frozen=True)
class Run:
    """One run of all stages: an experiment's params, on a CPU, with so many threads.

    The CPU None is the machine's own.
    """

    model: str
    cpu: str | None
    threads: int

    def make(self, original: Repository, folder: Path) -> dict[str, bytes]:
        """Run the stages in a copy of the project and return their outputs by path."""
        start, copy = time.monotonic(), original.copy(folder)
        prefix = ["taskset", "--cpu-list", "0" if self.threads == 1 else f"0-{self.threads - 1}"]
        prefix += [EMULATOR, "-cpu", self.cpu] if self.cpu else []
        threads = dict.fromkeys(("TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), str(self.threads))
        for stage in STAGES:
            copy.run(*prefix, sys.executable, "-m", f"stages.{stage}", **threads)
        print(f"{self.model}, {self}: {time.monotonic() - start:.0f} s", flush=True)
        outputs = copy.results()
        # the one says where they were made, the other is of no stage
        for name in ("metrics/environment.json", "models/README.md"):
            del outputs[name]
        shutil.rmtree(folder)
        return outputs

    def __str__(self) -> str:
        return f"{self.cpu or 'native'}, {self.threads} thread{'s' * (self.threads > 1)}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="portable", description=__doc__.split("\n")[0])
    models = {"run-1": {}} | read_experiments().groups["models"]
    parser.add_argument(
        "--models",
        metavar="NAME",
        nargs="+",
        choices=models,
        default=["run-1", "mlp-best", "cnn-small"],
    )
    parser.add_argument(
        "--cpus",
        metavar="NAME",
        nargs="+",
        default=CPUS,
        help=f"as `{EMULATOR} -cpu help` lists them",
    )
    arguments = parser.parse_args()
    if not shutil.which(EMULATOR):
        print(
            f"portable: {EMULATOR} is not installed; Debian's package qemu-user-static has it",
            file=sys.stderr,
        )
        return 2
    for cpu in arguments.cpus:
        if subprocess.run(
            [EMULATOR, "-cpu", cpu, sys.executable, "--version"], capture_output=True
        ).returncode:
            raise UserError(
                f"{EMULATOR} knows no CPU {cpu}. `{EMULATOR} -cpu help` lists those that it knows"
            )
    os.environ.pop("OPENBLAS_CORETYPE", None)  # it would have NumPy compute alike on all CPUs
    table = compare({name: models[name] for name in arguments.models}, [None, *arguments.cpus])
    print(f"\n{native_arithmetic() or 'portable arithmetic'} on {cpu_model()}\n")
    print(
        table.pivot(index=["model", "output"], columns="run", values="equal")
        .fillna("")
        .to_markdown()
    )
    different = table[table["equal"] == "different"]
    print(
        f"\n{len(table) - len(different)} of {len(table)} outputs are equal"
        " to those of the native run with one thread."
    )
    if set(arguments.models) >= {"run-1", "mlp-best", "cnn-small"} and arguments.cpus == CPUS:
        write_csv(RESULT, summary(table))
    return int(len(different) > 0)


def compare(models: dict[str, dict], cpus: list[str | None]) -> pd.DataFrame:
    """Return a row for each output of each run: model, run, output, and whether it is equal.

    It is compared with that of the first run.
    """
    rows = []
    with TemporaryDirectory(prefix="portable-") as folder, ThreadPoolExecutor(cpu_count()) as pool:
        folder = Path(folder)
        draw_data_set(
            read_dataset(PROJECT / "dataset.yaml").files,
            folder / "drawings",
            training=700,
            test=200,
        )
        for model, overrides in models.items():
            kept = {
                name: value
                for name, value in overrides.items()
                if name not in ("train.epochs", "train.batch_size")
            }
            original = small_project(folder / model, folder / "drawings")
            original.set(
                *SMALL, *(f"{name}={value}".replace("True", "true") for name, value in kept.items())
            )
            runs = [Run(model, cpu, threads) for cpu in cpus for threads in THREADS]
            made = list(
                pool.map(
                    lambda run, original=original: run.make(
                        original, folder / f"{run.model} {run}"
                    ),
                    runs,
                )
            )
            for run, outputs in zip(runs[1:], made[1:], strict=True):
                for path in sorted(made[0].keys() | outputs.keys()):
                    equal = made[0].get(path) == outputs.get(path)
                    rows.append(
                        {
                            "model": model,
                            "run": str(run),
                            "output": path,
                            "equal": "equal" if equal else "different",
                        }
                    )
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each run and a column for each model: how many of how many outputs are equal."""
    groups = table.assign(equal=table["equal"] == "equal").groupby(["run", "model"], sort=False)[
        "equal"
    ]
    texts = groups.agg(lambda equal: f"{equal.sum()} of {len(equal)}")
    return texts.unstack().reindex(table["run"].unique())[table["model"].unique()].reset_index()


if __name__ == "__main__":
    with exit_on_user_error("portable"):
        sys.exit(main())
