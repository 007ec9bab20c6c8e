"""How fast, and against what?  `make bench` (`python -m bench.speed`)

Measures what the README claims of speed, on the last commit and the real data, side by side: in
every repetition each of two rivals has its turn, and a ratio is the median of the repetitions'
ratios. Writes metrics/speed.json: the measured values and, made from them, the tables of the
README. It takes an hour; `--only SECTION` leaves the others as they were.
"""

import argparse
import gzip
import itertools
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from bench.tables import BATCH_SIZES, COUNTS, FACTORS, LOOPS, tables
from fashion.environment import describe_environment
from fashion.errors import UserError, exit_on_user_error
from fashion.files import sha256, write_json
from fashion.idx import read_idx
from fashion.strict_yaml import read_yaml
from stages.dataset import DATASET, read_dataset
from stages.params import PARAMS
from tests.support.repository import write_yaml
from tools.arguments import positive_int
from tools.dvc import command, dvc, subprocess_env
from tools.experiments.backend import ExperimentSpec
from tools.experiments.config import EXPERIMENTS, read_experiments
from tools.experiments.local import SINGLE_THREAD_ENV, LocalBackend
from tools.experiments.run import ExperimentRun, State
from tools.git import git
from tools.overrides import with_overrides

RESULT = Path("metrics/speed.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", metavar="SECTION", nargs="+", choices=SECTIONS, default=list(SECTIONS)
    )
    parser.add_argument("--repetitions", metavar="N", type=positive_int, default=3)
    arguments = parser.parse_args()
    measured = json.loads(RESULT.read_text())["measured"] if RESULT.exists() else {}
    for section in arguments.only:
        with clone():
            measured[section] = SECTIONS[section](arguments.repetitions)
        made = tables(measured)
        write_json(
            RESULT,
            {
                "environment": describe_environment() | {"cores": os.cpu_count()},
                "measured": measured,
                "tables": made,
            },
        )
    for rows in made.values():
        print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True), "\n")


# Running things


@contextmanager
def clone() -> Iterator[None]:
    """Work in a clone of the last commit with a cache of its own.

    Nothing there has been trained; the data is prepared.
    """
    data = Path("data/raw").resolve()
    if not data.is_dir():
        raise UserError(f"{data}: no data yet. `dvc repro` fetches it")
    with TemporaryDirectory(prefix="bench-") as folder:
        git("clone", "--quiet", ".", folder)
        os.environ["FASHION_MNIST_DIR"] = str(data)
        with chdir(folder):
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
    def ours() -> float:
        with clone():
            return seconds(lambda: python("tools.experiments"))

    def plain() -> float:
        with TemporaryDirectory() as folder:
            return seconds(lambda: python("bench.baseline", folder))

    return interleave({"ours": ours, "plain": plain}, repetitions)


def training(repetitions: int) -> dict[str, list[dict]]:
    """By "LOOP BATCH_SIZE THREADS": what bench.throughput prints."""
    loops = [loop for loop in LOOPS if not loop.startswith("torch") or find_spec("torch")]

    def rate(loop: str, batch_size: int, threads: int) -> dict:
        settings = dict.fromkeys(SINGLE_THREAD_ENV, str(threads))
        return json.loads(
            python("bench.throughput", loop, str(batch_size), **settings).splitlines()[-1]
        )

    results = {}
    for threads in sorted({1, os.cpu_count()}):
        for size in BATCH_SIZES:
            rivals = {
                f"{loop} {size} {threads}": lambda args=(loop, size, threads): rate(*args)
                for loop in loops
            }
            results |= interleave(rivals, repetitions)
    return results


def arithmetic(repetitions: int) -> dict[str, list[float]]:
    """Return seconds of an epoch of ours with one thread, as experiments have.

    By "ARITHMETIC BATCH_SIZE".
    """
    kinds = {"portable": {}, "native": {"ONEDNN_MAX_CPU_ISA": "DEFAULT"}}

    def epoch(kind: str, batch_size: int) -> float:
        printed = python(
            "bench.throughput", "ours", str(batch_size), **SINGLE_THREAD_ENV, **kinds[kind]
        )
        return json.loads(printed.splitlines()[-1])["seconds"]

    results = {}
    for size in BATCH_SIZES:
        rivals = {f"{kind} {size}": lambda args=(kind, size): epoch(*args) for kind in kinds}
        results |= interleave(rivals, repetitions)
    return results


def nothing_to_do(repetitions: int) -> dict[str, list[float]]:
    dvc("repro", "--quiet")
    with TemporaryDirectory() as empty:
        with chdir(empty):
            run("git", "init", "--quiet")
            dvc("init", "--quiet")

        def status() -> float:
            with chdir(empty):
                return seconds(lambda: run(*command("status")))

        return interleave(
            {"repro": lambda: seconds(lambda: run(*command("repro"))), "status": status},
            5 * repetitions,
        )


def data(repetitions: int) -> dict[str, list[dict]]:
    """Measure each stage with the images repeated FACTOR times.

    By "STAGE FACTOR": seconds, and the most memory of its own in bytes.
    """
    values, dataset, project = read_yaml(PARAMS), read_yaml(DATASET), Path.cwd()
    folders = {}
    for factor in FACTORS:
        folders[factor] = project / f"times-{factor}"
        git("clone", "--quiet", ".", str(folders[factor]))
        with chdir(folders[factor]):
            repeat_data(project / "data/raw", factor)
            values["train"] |= {"epochs": 1, "batch_size": 256}
            values["prepare"]["validation_size"] = 6000 * factor
            for file in dataset["files"].values():
                path = Path("data/raw", file["name"])
                file |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
            write_yaml(PARAMS, values)
            write_yaml(DATASET, dataset)

    def stage(name: str, factor: int) -> dict:
        with chdir(folders[factor]):
            return watch(sys.executable, "-m", f"stages.{name}")

    results = {}
    for name in ("prepare", "train", "evaluate"):
        rivals = {
            f"{name} {factor}": lambda args=(name, factor): stage(*args) for factor in FACTORS
        }
        results |= interleave(rivals, repetitions)
    return results


def repeat_data(source: Path, factor: int) -> None:
    """Write the four files with their items repeated.

    Gzip files may be made of several parts, so one is packed once.
    """
    Path("data/raw").mkdir(parents=True)
    for name, file in read_dataset().files:
        values = read_idx(source / file.name, (None, 28, 28) if "images" in name else (None,))
        header = bytes([0, 0, 8, values.ndim]) + struct.pack(
            f">{values.ndim}I", factor * len(values), *values.shape[1:]
        )
        body = gzip.compress(values.tobytes(), mtime=0)
        Path("data/raw", file.name).write_bytes(gzip.compress(header, mtime=0) + factor * body)


def watch(*words: str) -> dict[str, float]:
    """Run a command; return its seconds and the largest memory of its own.

    Files that are mapped do not count as its own.
    """
    most, start = 0, time.perf_counter()
    with subprocess.Popen(
        words, env=subprocess_env(**SINGLE_THREAD_ENV), stdout=subprocess.DEVNULL
    ) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            most = max(most, 1024 * int(lines.get("RssAnon", "0 kB").split()[0]))
            time.sleep(0.02)
    if process.returncode:
        raise UserError(f"{' '.join(words)} failed")
    return {"seconds": time.perf_counter() - start, "memory": most}


def experiments(_: int) -> dict[str, list[float]]:
    """By number of experiments; they are short, and made once."""
    config, results, seed = read_yaml(EXPERIMENTS), {}, 1
    for count in COUNTS:
        short = {"train.epochs": 1, "train.batch_size": 256, "model.hidden_units": [8]}
        config["experiments"] = {
            f"of-{count}-{i}": short | {"seed": seed + i} for i in range(count)
        }
        seed += count
        write_yaml(EXPERIMENTS, config)
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        git(*identity, "commit", "--quiet", "--all", "-m", f"{count}")
        results |= interleave({str(count): lambda: seconds(lambda: python("tools.experiments"))}, 1)
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
        before = os.times()
        elapsed = seconds(lambda: python("stages.train"))
        after = os.times()
        cpu = (
            after.children_user
            - before.children_user
            + after.children_system
            - before.children_system
        )
        costs[name] = {"seconds": elapsed, "cpu": cpu}
        print(f"{name}: {costs[name]}", flush=True)
    return costs


SECTIONS = {
    "end_to_end": end_to_end,
    "training": training,
    "arithmetic": arithmetic,
    "nothing_to_do": nothing_to_do,
    "data": data,
    "experiments": experiments,
    "stages": stages,
    "models": models,
}


if __name__ == "__main__":
    with exit_on_user_error("bench"):
        main()
