"""The README's tables of speed, made from what bench/speed.py has measured."""

import itertools
import math
import statistics

FACTORS = [1, 4, 16]  # times the data
COUNTS = [3, 12, 48]  # of experiments
BATCH_SIZES = [64, 128, 256]
LOOPS = {
    "ours": "here",
    "keras": "`model.fit`",
    "torch": "PyTorch, eager",
    "torch-compiled": "PyTorch, compiled",
}
# arrays of the weights' size that Adam reads (gradient, weights, two moments) and writes (weights,
# moments)
MOMENTS = 7


def goals_table(measured: dict) -> list[dict]:
    """Each goal, what it is measured by, and whether it is reached."""
    ends, nothing = measured["end_to_end"], measured["nothing_to_do"]
    rates = {(row["batch size"], row["threads"]): row for row in rates_of(measured)}
    rows = [
        goal("three experiments, against the plain script",
             ratios(ends["ours"], ends["plain"]), "at most", 0.5),
        *(
            goal(f"training at batch 64, {threads} thread{'s' * (threads > 1)},"
                 " against `model.fit`",
                 rates[size, threads]["over keras"], "at least", 1.5)
            for size, threads in rates if size == 64
        ),
    ]  # fmt: skip
    for size, threads in rates:
        if "over torch" in rates[size, threads]:
            what = (
                f"training at batch {size}, {threads} thread{'s' * (threads > 1)},"
                " against the faster PyTorch"
            )
            rows.append(goal(what, rates[size, threads]["over torch"], "at least", 1.0))
    rows += [
        goal(f"training at batch 256, {threads} thread{'s' * (threads > 1)},"
             " of the machine's limit",
             rates[size, threads]["of the limit"], "at least", 0.7)
        for size, threads in rates if size == 256
    ]  # fmt: skip
    rows.append(goal("`dvc repro` with nothing to do, against `dvc status` in an empty repository",
                     ratios(nothing["repro"], nothing["status"]), "at most", 1.3))  # fmt: skip
    for name in ("prepare", "train", "evaluate"):
        times = [
            min(run["seconds"] for run in measured["data"][f"{name} {factor}"])
            for factor in FACTORS
        ]
        what = (
            f"{name}: seconds a further image, quickest runs,"
            " from 4 to 16 times the data against 1 to 4"
        )
        repetitions = len(measured["data"][f"{name} 1"])
        rows.append(goal(what, [growth(FACTORS, times)], "at most", 1.1, repetitions))
    memory = [
        statistics.median(run["memory"] for run in measured["data"][f"train {factor}"])
        for factor in FACTORS
    ]
    what = "train: further MB of its own memory at 16 times the data (a batch as numbers is 0.8)"
    rows.append(
        goal(
            what, [(memory[-1] - memory[0]) / 1e6], "at most", 0.8, len(measured["data"]["train 1"])
        )
    )
    total = [measured["experiments"][str(count)][0] for count in COUNTS]
    rows.append(
        goal(
            "seconds a further experiment, from 12 to 48 against 3 to 12",
            [growth(COUNTS, total)],
            "at most",
            1.1,
        )
    )
    return rows


def goal(
    what: str, values: list[float], bound: str, limit: float, repetitions: int | None = None
) -> dict:
    """A row of the table.

    `repetitions` where they are not the values: where one was chosen from them.
    """
    value = statistics.median(values)
    reached = value <= limit if bound == "at most" else value >= limit
    return {
        "what": what,
        "measured": f"{value:.2f}"
        + (f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""),
        "repetitions": str(repetitions or len(values)),
        "goal": f"{bound} {limit}",
        "": "✓ reached" if reached else f"✗ missed by {abs(value - limit):.2f}",
    }


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def growth(sizes: list[int], values: list[float]) -> float:
    """Return how much steeper a curve of three points is in its later part than in its earlier.

    The slope of the one is set against that of the other; 1 is linear.
    """
    early, late = ((values[i + 1] - values[i]) / (sizes[i + 1] - sizes[i]) for i in (0, 1))
    return late / early if early > 0 else math.inf  # nothing can be said of a curve that falls


def rates_of(measured: dict) -> list[dict]:
    """Images per second of every loop, and ratios between them, by batch size and threads."""
    images, rows = 54_000, []
    for threads in sorted({int(key.split()[2]) for key in measured["training"]}):
        for size in BATCH_SIZES:
            runs = {loop: measured["training"].get(f"{loop} {size} {threads}") for loop in LOOPS}
            rate = {
                loop: [images / run["seconds"] for run in found]
                for loop, found in runs.items()
                if found
            }
            row = {"batch size": size, "threads": threads}
            row |= {loop: statistics.median(values) for loop, values in rate.items()}
            row["over keras"] = ratios(rate["ours"], rate["keras"])
            if "torch" in rate:
                best = max(("torch", "torch-compiled"), key=lambda loop, row=row: row[loop])
                row["over torch"] = ratios(rate["ours"], rate[best])
            row["of the limit"] = [
                shortest_epoch(run, size) / run["seconds"] for run in runs["ours"]
            ]
            rows.append(row)
    return rows


def shortest_epoch(run: dict[str, float], batch_size: int) -> float:
    """Return the seconds that the arithmetic of an epoch takes at the machine's best rates.

    It would take them if it waited for nothing else. Every weight takes part in two operations
    (multiply, add) an image in each of three products: forward, gradient of the weights, gradient
    of the inputs, which the first layer does not need. Validation goes forward only.
    """
    train, validation, widths = 54_000, 6_000, [784, 784, 392, 196, 49, 10]
    products = [inputs * outputs for inputs, outputs in itertools.pairwise(widths)]
    operations = 2 * (train * (3 * sum(products) - products[0]) + validation * sum(products))
    updates = -(-train // batch_size) * MOMENTS * 4 * (sum(products) + sum(widths[1:]))
    return operations / run["flops"] + updates / run["bytes_per_second"]


def training_table(measured: dict) -> list[dict]:
    def spread(values: list[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    return [
        {"batch size": str(row["batch size"]), "threads": str(row["threads"])}
        | {title: f"{row[loop]:,.0f}" for loop, title in LOOPS.items() if loop in row}
        | {
            "here / `model.fit`": spread(row["over keras"]),
            "of the machine's limit": spread(row["of the limit"]),
        }
        for row in rates_of(measured)
    ]


def arithmetic_table(measured: dict) -> list[dict]:
    """Return seconds of an epoch with portable and with native arithmetic.

    And the median of their ratios.
    """
    rows = []
    for size in BATCH_SIZES:
        portable, native = (
            measured["arithmetic"][f"{kind} {size}"] for kind in ("portable", "native")
        )
        values = ratios(portable, native)
        rows.append(
            {
                "batch size": str(size),
                "portable": f"{statistics.median(portable):.2f}",
                "native": f"{statistics.median(native):.2f}",
                "portable / native": (
                    f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
                ),
            }
        )
    return rows


def growth_table(measured: dict) -> list[dict]:
    rows = []
    for name in ("prepare", "train", "evaluate"):
        runs = {factor: measured["data"][f"{name} {factor}"] for factor in FACTORS}
        row = {"stage": name}
        row |= {
            f"{factor}x: seconds": f"{min(run['seconds'] for run in runs[factor]):.1f}"
            for factor in FACTORS
        }
        memory = {
            factor: statistics.median(run["memory"] for run in runs[factor]) for factor in FACTORS
        }
        row |= {f"{factor}x: MB": f"{memory[factor] / 1e6:.0f}" for factor in FACTORS}
        rows.append(row)
    return rows


def experiments_table(measured: dict) -> list[dict]:
    return [
        {
            "experiments": count,
            "seconds": f"{times[0]:.0f}",
            "seconds each": f"{times[0] / int(count):.1f}",
        }
        for count, times in measured["experiments"].items()
    ]


def stages_table(measured: dict) -> list[dict]:
    medians = {part: statistics.median(values) for part, values in measured["stages"].items()}
    total = sum(medians.values())
    return [
        {"part of run-1": part, "seconds": f"{value:.1f}", "share": f"{value / total:.0%}"}
        for part, value in medians.items()
    ] + [{"part of run-1": "all", "seconds": f"{total:.1f}", "share": "100%"}]


def costs_table(measured: dict) -> list[dict]:
    return [
        {
            "experiment": name,
            "minutes, alone on both cores": f"{cost['seconds'] / 60:.1f}",
            "CPU minutes": f"{cost['cpu'] / 60:.1f}",
        }
        for name, cost in measured["models"].items()
    ]


TABLES = {
    "goals": (goals_table, {"end_to_end", "training", "nothing_to_do", "data", "experiments"}),
    "training": (training_table, {"training"}),
    "arithmetic": (arithmetic_table, {"arithmetic"}),
    "growth": (growth_table, {"data"}),
    "many": (experiments_table, {"experiments"}),
    "parts": (stages_table, {"stages"}),
    "costs": (costs_table, {"models"}),
}


def tables(measured: dict) -> dict[str, list[dict]]:
    """By name, those that the measured sections suffice for; rows of texts by title."""
    return {
        name: make(measured)
        for name, (make, sections) in TABLES.items()
        if sections <= measured.keys()
    }
