"""Measure commands in clones of the project, and keep the results.

The programs of this folder share it. `measure` runs a command and returns what it cost, `alternate`
lets two commands take turns, and `record` writes bench/results/PROGRAM.json: all measured values,
and the tables made from them, which `make readme` puts into docs/.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psutil
from joblib import cpu_count

from fashion.core.environment import pinned_versions
from fashion.core.errors import UserError
from fashion.core.files import write_json
from tools.dvc import dvc
from tools.git import local_clone
from tools.process import user_env

RAW, RESULTS = Path("data/raw"), Path("bench/results")
INTERVAL = 0.02  # seconds between two readings of a process's memory
EPOCH_END = re.compile(r"epoch \d+/\d+ |\d+/\d+ - ")  # what stages/train.py and Keras print

Rivals = dict[str, dict[str, list[float]]]  # the values of all repetitions, by rival and measure
Groups = dict[str, Rivals]
Rows = list[dict[str, Any]]


@contextmanager
def clone(stage: str = "") -> Iterator[Path]:
    """Yield a clone of the last commit, with its own cache, in which DVC has run up to `stage`.

    Its raw data comes from this project's. Raises UserError if that is missing.
    """
    if not RAW.is_dir():
        raise UserError(f"{RAW} is missing. `dvc repro` fetches it")
    os.environ["DATA_DIR"] = str(RAW.resolve())
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name).resolve()
        local_clone(folder)
        if stage:
            dvc("repro", "--quiet", stage, folder=folder)
        yield folder


def measure(folder: Path, *words: str, **variables: str) -> dict[str, float]:
    """Run Python with the arguments `words` in `folder`, and return what it cost.

    The keys are "seconds", "CPU seconds" (child processes included), "MB" (the largest memory of
    the process, without mapped files) and, if the command prints epochs, "seconds an epoch" (the
    median without the first epoch). `variables` are further environment variables. Raises UserError
    with the last lines if the command fails.
    """
    env = user_env() | {"PYTHONUNBUFFERED": "1"} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    lines, epochs = deque(maxlen=20), []
    start, cpu_before = time.perf_counter(), sum(os.times()[2:4])  # of children: user and system
    with (
        ThreadPoolExecutor() as pool,
        subprocess.Popen([sys.executable, *words], cwd=folder, env=env, **pipes) as process,
    ):
        peak = pool.submit(_peak_memory, process)
        for line in process.stdout:
            lines.append(line)
            epochs += [time.perf_counter()] if EPOCH_END.match(line) else []
        status = process.wait()
        seconds = time.perf_counter() - start
    if status:
        raise UserError(f"`python {' '.join(words)}` failed:\n{''.join(lines)}")
    cost = {"seconds": seconds, "CPU seconds": sum(os.times()[2:4]) - cpu_before}
    cost["MB"] = peak.result() / 1e6
    if len(epochs) > 1:
        cost["seconds an epoch"] = statistics.median(end - begin for begin, end in pairwise(epochs))
    return cost


def _peak_memory(process: subprocess.Popen) -> int:
    """Return the most bytes that a process occupied until it ended.

    Pages of mapped files do not count: the system takes them back when it needs them.
    """
    peak = 0
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            memory = psutil.Process(process.pid).memory_info()
            peak = max(peak, memory.rss - memory.shared)
        time.sleep(INTERVAL)
    return peak


def alternate(
    rivals: dict[str, Callable[[], dict[str, float]]], repetitions: int, *measures: str
) -> Rivals:
    """Run each rival `repetitions` times, in alternating order, and return these measures."""
    results = {name: {key: [] for key in measures} for name in rivals}
    for repetition in range(repetitions):
        for name in list(rivals)[:: -1 if repetition % 2 else 1]:
            cost = rivals[name]()
            rounded = {key: round(value, 3) for key, value in cost.items()}
            print(f"{repetition + 1} of {repetitions}, {name}: {rounded}", flush=True)
            for key in measures:
                results[name][key].append(cost[key])
    return results


def table(groups: Groups) -> Rows:
    """Return a row for each group: medians with ranges, and the ratio of two rivals."""
    rows = []
    for group, rivals in groups.items():
        row, values = {"": group}, []
        for rival, measures in rivals.items():
            for key, values in measures.items():
                row[", ".join(filter(None, (rival, key)))] = spread(values)
        if len(rivals) == 2:
            first, second = (next(iter(measures.values())) for measures in rivals.values())
            ratios = [one / other for one, other in zip(first, second, strict=True)]
            row[" / ".join(rivals)] = spread(ratios)
        rows.append(row | {"repetitions": str(len(values))})
    return pd.DataFrame(rows).fillna("").to_dict("records")


def spread(values: list[float]) -> str:
    """Return the median to three digits, with the range if there are several values."""
    median, low, high = (
        f"{float(f'{value:.3g}'):,g}"
        for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} ({low} to {high})" if len(values) > 1 else median


def record(
    program: str, section: str, values: Any, tables: Callable[[dict], dict[str, Rows]]
) -> None:
    """Write the values of one section into a program's results, and print its tables.

    `tables` makes tables by name from the values of sections. The other sections keep their values.
    """
    path = RESULTS / f"{program}.json"
    sections = json.loads(path.read_text())["sections"] if path.exists() else {}
    sections |= {section: values}
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    machine = {"cpu": cpu, "cores": cpu_count(), "packages": pinned_versions()}
    content = {"machine": machine, "sections": sections}
    write_json(path, content | {"tables": tables(sections)})
    for rows in tables({section: values}).values():
        print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True), "\n")
