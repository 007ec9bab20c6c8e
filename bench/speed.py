"""How fast, and against what?  `make bench` (`python -m bench.speed`)

Measures what docs/ claims of speed, on the last commit and the real data, side by side: in every
repetition each of several rivals has its turn, and a ratio is the median of the repetitions'
ratios. Writes metrics/speed.json: the measured values and, made from them, the tables of docs/. It
takes half an hour on two quiet cores; `--only SECTION` measures a part and leaves the others as
they were, and some, which take longer, are measured by name alone: `--help` says which.
"""

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from bench.growth import grown_project, watch
from bench.many import children_seconds, grow, looks, stub_project
from bench.many import experiments as run_experiments
from bench.tables import BATCH_SIZES, COMMITS, COUNTS, FACTORS, KINDS, LOOPS, STAGES, tables
from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.files import write_json
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from fashion.model.environment import describe_environment
from tests.support.repository import Repository, write_yaml
from tools.arguments import positive_int
from tools.dvc import command, dvc, subprocess_env
from tools.experiments.backend import ExperimentSpec
from tools.experiments.config import read_experiments
from tools.experiments.local import SINGLE_THREAD_ENV, LocalBackend
from tools.experiments.run import ExperimentRun, State
from tools.git import git
from tools.overrides import with_overrides

RESULT = Path("metrics/speed.json")
# the instructions that rivals may compute with: of TensorFlow's oneDNN, and the last two of PyTorch
ARITHMETIC = {
    "portable": {
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "native": {"ONEDNN_MAX_CPU_ISA": "DEFAULT"},
}
# portable arithmetic has one thread an operation (fashion/model/environment.py)
THREADS = {"portable": [1], "native": sorted({1, os.cpu_count()})}


def main() -> None:
    long = [f"{name} ({section.minutes})" for name, section in SECTIONS.items() if section.long]
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__.split("\n")[0],
        epilog=f"By default: {', '.join(usual())}, in half an hour. By name alone, as they take"
        f" longer, with their minutes: {', '.join(long)}.",
    )
    parser.add_argument("--only", metavar="SECTION", nargs="+", choices=SECTIONS, default=usual())
    parser.add_argument(
        "--repetitions", metavar="N", type=positive_int, help="default: as many as fit in the time"
    )
    arguments = parser.parse_args()
    for name in {*ARITHMETIC["portable"], *SINGLE_THREAD_ENV}:
        os.environ.pop(name, None)  # each measurement says which it has
    measured = json.loads(RESULT.read_text())["measured"] if RESULT.exists() else {}
    made = {}
    for name in arguments.only:
        section = SECTIONS[name]
        with clone():
            measured[name] = section.measure(arguments.repetitions or section.repetitions)
        made = tables(measured)
        environment = describe_environment() | {"cores": os.cpu_count()}
        write_json(RESULT, {"environment": environment, "measured": measured, "tables": made})
    for rows in made.values():
        print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True), "\n")


# Running things


@contextmanager
def clone(prepared: bool = True) -> Iterator[None]:
    """Work in a clone of the last commit with a cache of its own.

    Nothing there has been trained; the data is prepared, unless it is not to be.
    """
    data = Path("data/raw").resolve()
    if not data.is_dir():
        raise UserError(f"{data}: no data yet. `dvc repro` fetches it")
    with TemporaryDirectory(prefix="bench-") as folder:
        git("clone", "--quiet", ".", folder)
        os.environ["FASHION_MNIST_DIR"] = str(data)
        with chdir(folder):
            if prepared:
                dvc("repro", "--quiet", "prepare")
            yield


def run(*words: str, **variables: str) -> str:
    """What a command prints. Raises UserError with its last lines when it fails."""
    result = subprocess.run(
        words, env=subprocess_env(**variables), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise UserError(f"{' '.join(words)} failed:\n{result.stderr[-2000:]}")
    return result.stdout


def python(module: str, *arguments: str, **variables: str) -> str:
    return run(sys.executable, "-m", module, *arguments, **variables)


def seconds(action: Callable) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleave(rivals: dict[str, Callable], repetitions: int) -> dict[str, list]:
    """Return what each rival returns, a list of `repetitions` results each.

    Who begins changes with every repetition.
    """
    results = {name: [] for name in rivals}
    for repetition in range(repetitions):
        for name in list(rivals)[:: -1 if repetition % 2 else 1]:
            results[name].append(rivals[name]())
            print(f"{name}, {repetition + 1} of {repetitions}: {results[name][-1]}", flush=True)
    return results


# What is measured; every function returns seconds or what its docstring says, a list of repetitions
# each


def end_to_end(repetitions: int) -> dict[str, list[float]]:
    """By "ARITHMETIC ours" and "ARITHMETIC plain", from the raw files to compared experiments."""

    def ours(kind: str) -> float:
        with clone(prepared=False):
            return seconds(lambda: python("tools.rebuild", **ARITHMETIC[kind]))

    def plain(kind: str) -> float:
        with TemporaryDirectory() as folder:
            return seconds(lambda: python("bench.baseline", folder, **ARITHMETIC[kind]))

    rivals = {
        f"{kind} {rival.__name__}": lambda rival=rival, kind=kind: rival(kind)
        for kind in KINDS
        for rival in (ours, plain)
    }
    return interleave(rivals, repetitions)


def commands(repetitions: int) -> dict[str, list[float]]:
    """What one waits for again and again, by command; all is made before.

    The experiments are short, as what they are does not matter for that.
    """
    Repository(Path.cwd()).set(
        "experiments={" + ", ".join(f"run-{i}: {{train.epochs: {i}}}" for i in (1, 2, 3)) + "}"
    )
    python("tools.rebuild")
    Image.fromarray(np.load("data/prepared/test_images.npy", mmap_mode="r")[0]).save("picture.png")
    nothing_to_do = {"rebuild": ("-m", "tools.rebuild"), "status": tuple(command("status")[1:])}
    # after these, as stages write their outputs anew, which DVC has to read then
    others = {
        "plot": ("-m", "stages.plot"),
        "evaluate": ("-m", "stages.evaluate"),
        "import tensorflow, keras": ("-c", "import tensorflow, keras"),
        "predict": ("-m", "tools.predict", "picture.png"),
        "import tensorflow": ("-c", "import tensorflow"),
    }
    results = {}
    for words in (nothing_to_do, others):
        rivals = {
            name: lambda arguments=arguments: seconds(lambda: run(sys.executable, *arguments))
            for name, arguments in words.items()
        }
        for warm_up in rivals.values():
            warm_up()
        results |= interleave(rivals, repetitions)
    return results


def training(repetitions: int) -> dict[str, list[dict]]:
    """By "ARITHMETIC LOOP BATCH_SIZE THREADS": what bench.throughput prints."""
    loops = [loop for loop in LOOPS if not loop.startswith("torch") or find_spec("torch")]

    def rate(kind: str, loop: str, batch_size: int, threads: int) -> dict:
        settings = ARITHMETIC[kind] | dict.fromkeys(SINGLE_THREAD_ENV, str(threads))
        printed = python("bench.throughput", loop, str(batch_size), **settings)
        return json.loads(printed.splitlines()[-1])

    results = {}
    for threads, size in itertools.product(THREADS["native"], BATCH_SIZES):
        rivals = {
            f"{kind} {loop} {size} {threads}": lambda args=(kind, loop, size, threads): rate(*args)
            for kind in KINDS
            if threads in THREADS[kind]
            for loop in loops
        }
        results |= interleave(rivals, repetitions)
    return results


def data(repetitions: int) -> dict[str, list[dict]]:
    """Measure each stage with the images repeated FACTOR times, one factor after the other.

    By "STAGE FACTOR": what bench.growth.watch returns.
    """
    results = {f"{stage} {factor}": [] for factor in FACTORS for stage in STAGES}
    for _, factor in itertools.product(range(repetitions), FACTORS):
        with grown_project(factor) as project:
            for stage in STAGES:
                results[f"{stage} {factor}"].append(watch(project, stage))
                print(f"{stage}, {factor} times: {results[f'{stage} {factor}'][-1]}", flush=True)
    return results


def experiments(_: int) -> dict[str, dict]:
    """By number of experiments, once: what bench.many.experiments returns."""
    dvc("repro", "--quiet")
    results = {}
    with TemporaryDirectory(prefix="many-") as folder:
        project = stub_project(Path(folder))
        for count in COUNTS:
            results[str(count)] = run_experiments(project, count)
            print(f"{count} experiments: {results[str(count)]}", flush=True)
    return results


def commits(repetitions: int) -> dict[str, dict]:
    """By size of the repository: what bench.many.looks returns."""
    dvc("repro", "--quiet")
    results = {}
    with TemporaryDirectory(prefix="many-") as folder:
        project = stub_project(Path(folder))
        run_experiments(project, 1)
        for size, numbers in {"small": (1, 1), "large": (COMMITS, COUNTS[-1])}.items():
            grow(project, *numbers)
            results[size] = looks(project, repetitions)
    return results


def stages(repetitions: int) -> dict[str, list[float]]:
    """The parts of one experiment, run-1 alone on one thread, in the order in which they come."""
    results = []
    for repetition in range(repetitions):
        results.append(parts(*timeline(f"parts-{repetition}", seed=1000 + repetition)))
        print(results[-1], flush=True)
    return {part: [result[part] for result in results] for part in results[0]}


def timeline(name: str, seed: int) -> tuple[list[tuple[str, float]], str]:
    """Return what happens in an experiment and when, in seconds; and its log.

    In the log Python tells what each import takes.
    """
    overrides = read_experiments().experiments["run-1"] | {"seed": seed}
    run = ExperimentRun(ExperimentSpec(name, overrides))
    os.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    with LocalBackend() as backend:
        run.start(backend)
        del os.environ["PYTHONPROFILEIMPORTTIME"]
        events = [("start", time.perf_counter())]
        while run.state is State.RUNNING:
            events += [(event.split(",")[0], time.perf_counter()) for event in run.poll_log()]
            if events[-1][0] == "plot" and "Updating lock file" in of_stage(
                "plot", run.log_path.read_text()
            ):
                events.append(("drawn", time.perf_counter()))
            time.sleep(0.02)
    return [*events, ("end", time.perf_counter())], run.log_path.read_text()


def of_stage(name: str, log: str) -> str:
    """What an experiment's log says from the start of a stage to that of the next."""
    return log.partition(f"Running stage '{name}'")[2].partition("Running stage '")[0]


def import_seconds(text: str) -> float:
    """Return the seconds of all imports by themselves.

    The sum over lines "import time: MICROSECONDS | CUMULATIVE | MODULE".
    """
    return sum(map(int, re.findall(r"^import time: +(\d+) \|", text, re.MULTILINE))) / 1e6


def parts(events: list[tuple[str, float]], log: str) -> dict[str, float]:
    at = dict(events)
    imports = {name: import_seconds(of_stage(name, log)) for name in ("train", "evaluate", "plot")}
    epochs = [moment for event, moment in events if event.startswith("epoch")]
    epoch = statistics.median(later - earlier for earlier, later in itertools.pairwise(epochs))
    return {
        "DVC: start-up, workspace, what is up to date": at["train"] - at["start"],
        "train: imports": imports["train"],
        "train: Python's start-up, data, compilation": epochs[0]
        - at["train"]
        - imports["train"]
        - epoch,
        "train: epochs": epochs[-1] - epochs[0] + epoch,
        "train: saving; DVC: hashing": at["evaluate"] - epochs[-1],
        "evaluate: imports": imports["evaluate"],
        "evaluate: scoring": at["plot"] - at["evaluate"] - imports["evaluate"],
        "plot: imports": imports["plot"],
        "plot: pictures": at["drawn"] - at["plot"] - imports["plot"],
        "DVC: keep the result, tidy up": at["end"] - at["drawn"],
    }


def models(_: int) -> dict[str, dict[str, float]]:
    """Return seconds and CPU seconds of each training of the group models, by experiment.

    Each is trained alone on all cores, once.
    """
    values, costs = read_yaml(PARAMS), {}
    for name, overrides in read_experiments().groups["models"].items():
        write_yaml(PARAMS, with_overrides(values, overrides, name))
        before = children_seconds()
        elapsed = seconds(lambda: python("stages.train"))
        costs[name] = {"seconds": elapsed, "cpu": children_seconds() - before}
        print(f"{name}: {costs[name]}", flush=True)
    return costs


class Section(NamedTuple):
    measure: Callable[[int], dict]
    repetitions: int
    minutes: int  # on two quiet cores, with PyTorch
    long: bool = False  # so that it is measured by name alone


SECTIONS = {
    "end_to_end": Section(end_to_end, repetitions=2, minutes=12),
    "commands": Section(commands, repetitions=10, minutes=3),
    "training": Section(training, repetitions=1, minutes=9),
    "data": Section(data, repetitions=1, minutes=5),
    "stages": Section(stages, repetitions=1, minutes=1),
    "experiments": Section(experiments, repetitions=1, minutes=15, long=True),
    "commits": Section(commits, repetitions=3, minutes=5, long=True),
    "models": Section(models, repetitions=1, minutes=25, long=True),
}


def usual() -> list[str]:
    return [name for name, section in SECTIONS.items() if not section.long]


if __name__ == "__main__":
    with exit_on_user_error("bench"):
        main()
