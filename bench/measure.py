"""One way to measure commands, and one format of results, for the programs of this folder.

`measure` runs a command and returns what it took, `alternate` lets rivals take turns, and `record`
writes bench/results/PROGRAM.json: the values of each section of a program as measured, and the
tables made from them, which `make readme` puts into docs/.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from joblib import cpu_count

from fashion.core.environment import environment, pinned_versions
from fashion.core.errors import UserError
from fashion.core.files import write_json
from tools.process import user_env

RESULTS = Path("bench/results")
INTERVAL = 0.02  # seconds between two readings of a process's memory
EPOCH_END = re.compile(r"epoch \d+/\d+ |\d+/\d+ - ")  # printed by stages/train.py; by Keras

Rivals = dict[str, dict[str, list[float]]]  # values of all repetitions, by rival and measure
Groups = dict[str, Rivals]
Rows = list[dict[str, Any]]


def measure(folder: Path, *words: str, **variables: str) -> dict[str, float]:
    """Run Python with the arguments `words` in `folder`, and return what it took.

    These are "seconds", "CPU seconds" with those of its children, "MB" of its own memory at the
    peak, and the median "seconds an epoch" after the first one, if it prints epochs. `variables`
    are further environment variables. Raises UserError with the last lines if the command fails.
    """
    env = user_env() | {"PYTHONUNBUFFERED": "1"} | variables
    lines, epochs = deque(maxlen=20), []
    start, cpu_before = time.perf_counter(), sum(os.times()[2:4])  # of children: user and system
    with (
        ThreadPoolExecutor() as pool,
        subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        peak = pool.submit(_peak_memory, process)
        for line in process.stdout:
            lines.append(line)
            epochs += [time.perf_counter()] if EPOCH_END.match(line) else []
        status = process.wait()
        seconds = time.perf_counter() - start
    if status:
        raise UserError(f"`python {' '.join(words)}` failed:\n{''.join(lines)}")
    taken = {"seconds": seconds, "CPU seconds": sum(os.times()[2:4]) - cpu_before}
    taken["MB"] = peak.result() / 1e6
    if len(epochs) > 1:
        taken["seconds an epoch"] = statistics.median(
            end - begin for begin, end in pairwise(epochs)
        )
    return taken


def _peak_memory(process: subprocess.Popen) -> int:
    """Return the largest number of bytes that a process had for itself, until it ended.

    Linux calls them anonymous. Pages of mapped files are left out, as the system takes them back
    when it needs them.
    """
    peak = 0
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
            peak = max(peak, 1024 * int(found[1]) if found else 0)
        time.sleep(INTERVAL)
    return peak


def alternate(
    rivals: dict[str, Callable[[], dict[str, float]]], repetitions: int, *measures: str
) -> Rivals:
    """Return these measures of each rival, by name; the order changes with every repetition."""
    results = {name: {key: [] for key in measures} for name in rivals}
    for repetition in range(repetitions):
        for name in list(rivals)[:: -1 if repetition % 2 else 1]:
            taken = rivals[name]()
            rounded = {key: round(value, 3) for key, value in taken.items()}
            print(f"{repetition + 1} of {repetitions}, {name}: {rounded}", flush=True)
            for key in measures:
                results[name][key].append(taken[key])
    return results


def table(groups: Groups) -> Rows:
    """Return a row for each group: medians with ranges, and the ratio where two are compared."""
    rows = []
    for group, rivals in groups.items():
        row, values = {"": group}, []
        for rival, taken in rivals.items():
            for key, values in taken.items():
                row[", ".join(filter(None, (rival, key)))] = spread(values)
        if len(rivals) == 2:
            first, second = (next(iter(taken.values())) for taken in rivals.values())
            ratios = [one / other for one, other in zip(first, second, strict=True)]
            row[" / ".join(rivals)] = spread(ratios)
        rows.append(row | {"repetitions": str(len(values))})
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]


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
    """Put what a section has measured into a program's results; its others stay as they are."""
    path = RESULTS / f"{program}.json"
    sections = json.loads(path.read_text())["sections"] if path.exists() else {}
    sections |= {section: values}
    machine = {"cpu": cpu_model(), "cores": cpu_count(), "packages": pinned_versions()}
    made = tables(sections)
    write_json(path, {"machine": machine | environment(), "sections": sections, "tables": made})


def cpu_model() -> str:
    """Return the processor's name as Linux gives it."""
    return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
