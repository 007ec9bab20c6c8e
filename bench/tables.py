"""The tables of speed in docs/, made from what bench/speed.py has measured."""

import itertools
import statistics

FACTORS = [1, 16, 100]  # times the data
COUNTS = [3, 12, 48, 200]  # of experiments
COMMITS = 1000
STAGES = ["prepare", "train", "evaluate"]
BATCH_SIZES = [64, 128, 256]
IMAGES = {"train": 54_000, "validation": 6_000, "test": 10_000}
KINDS = ["portable", "native"]  # of arithmetic
LOOPS = {
    "ours": "here",
    "keras": "`model.fit`",
    "torch": "PyTorch, eager",
    "torch-compiled": "PyTorch, compiled",
}
# arrays of the weights' size that Adam reads (gradient, weights, two moments) and writes (weights,
# moments)
MOMENTS = 7
ORDER_BYTES = 8  # an image, for the order in which train takes them


def tables(measured: dict[str, dict]) -> dict[str, list[dict]]:
    """By name, those that something is measured for, by section; rows of texts by title."""
    made = {"goals": goals_table(measured)} | {
        name: make(measured[section])
        for name, (make, section) in TABLES.items()
        if section in measured
    }
    return {name: rows for name, rows in made.items() if rows}


# The goals


def goals_table(measured: dict[str, dict]) -> list[dict]:
    """Each figure of the sections that are measured, and whether its goal is reached."""
    return [
        {"what": row.pop("what"), "command": f'`make bench ARGS="--only {section}"`'} | row
        for section, make in GOALS.items()
        if section in measured
        for row in make(measured[section])
    ]


def goal(
    what: str,
    values: list[float],
    bound: str = "",
    limit: float | None = None,
    repetitions: int | None = None,
) -> dict:
    """A row of the table; without a bound, of a figure that stands beside another.

    `repetitions` where they are not the values: where one was made from them.
    """
    value, verdict = statistics.median(values), ""
    if limit is not None:
        reached = value <= limit if bound == "at most" else value >= limit
        verdict = "✓ reached" if reached else f"✗ missed by {abs(value - limit):.2f}"
    return {
        "what": what,
        "measured": spread(values),
        "repetitions": str(repetitions or len(values)),
        "goal": f"{bound} {limit}" if bound else "",
        "": verdict,
    }


def end_to_end_goals(section: dict) -> list[dict]:
    return [
        goal(f"`make`, from raw files to three compared experiments, against the plain script,"
             f" both {kind}",
             ratios(section[f"{kind} ours"], section[f"{kind} plain"]), "at most", 0.6)
        for kind in KINDS
    ]  # fmt: skip


def command_goals(section: dict) -> list[dict]:
    predict = ratios(section["predict"], section["import tensorflow"])
    return [
        goal("seconds of `python -m stages.plot`", section["plot"], "at most", 1.5),
        goal("seconds of `python -m stages.evaluate`", section["evaluate"], "at most", 2.5),
        goal("seconds of `import tensorflow, keras`, which evaluate has to do",
             section["import tensorflow, keras"]),
        goal("`make` with nothing to do, against `dvc status`",
             ratios(section["rebuild"], section["status"]), "at most", 1.5),
        goal("`make predict` of a picture, against `import tensorflow`", predict, "at most", 1.3),
    ]  # fmt: skip


def training_goals(section: dict) -> list[dict]:
    against_keras, against_torch, of_the_limit = [], [], []
    for row in rates_of(section):
        size, threads = row["batch size"], row["threads"]
        what = f"training at batch {size}, {row['arithmetic']},"
        what += f" {threads} thread{'s' * (threads > 1)}"
        if size == 64:
            row_of = goal(f"{what}, against `model.fit`", row["over keras"], "at least", 1.5)
            against_keras.append(row_of)
        if "over torch" in row:
            row_of = goal(f"{what}, against the faster PyTorch", row["over torch"], "at least", 1.0)
            against_torch.append(row_of)
        if size == 256:
            row_of = goal(f"{what}, of the machine's limit", row["of the limit"], "at least", 0.7)
            of_the_limit.append(row_of)
    return against_keras + against_torch + of_the_limit


def data_goals(section: dict) -> list[dict]:
    """Memory is a process's own; an image's seconds and memory are compared by repetition."""
    some, more, most = FACTORS

    def memory(stage: str, factor: int, bytes_an_image: int = 0) -> list[float]:
        order = bytes_an_image * factor * IMAGES["train"]
        return [run["memory"] - order for run in section[f"{stage} {factor}"]]

    def seconds_an_image(stage: str, factor: int) -> list[float]:
        return [run["seconds"] / factor for run in section[f"{stage} {factor}"]]

    rows = [
        goal(f"prepare: MB of memory at {factor}x the data",
             [taken / 1e6 for taken in memory("prepare", factor)], "at most", 150)
        for factor in FACTORS
    ]  # fmt: skip
    rows += [
        goal(f"{stage}: seconds an image at {most}x the data, against {more}x",
             ratios(seconds_an_image(stage, most), seconds_an_image(stage, more)), "at most", 1.1)
        for stage in STAGES
    ]  # fmt: skip
    for stage, own, note in (
        ("train", ORDER_BYTES, f", without the order's {ORDER_BYTES} bytes an image"),
        ("evaluate", 0, ""),
    ):
        what = f"{stage}: memory at {most}x the data, against {some}x{note}"
        values = ratios(memory(stage, most, own), memory(stage, some, own))
        rows.append(goal(what, values, "at most", 1.1))
    return rows


def experiments_goals(section: dict) -> list[dict]:
    count = str(COUNTS[-1])
    if count not in section:
        return []
    each = [section[count]["seconds"] / int(count)]
    return [goal(f"seconds an experiment around its training, of {count}", each, "at most", 4.0)]


def models_goals(section: dict) -> list[dict]:
    return [
        goal(f"minutes of a training of {name}, alone on all cores",
             [section[name]["seconds"] / 60], "at most", limit)
        for name, limit in (("mlp-best", 10), ("cnn-small", 15))
        if name in section
    ]  # fmt: skip


GOALS = {
    "end_to_end": end_to_end_goals,
    "commands": command_goals,
    "training": training_goals,
    "data": data_goals,
    "experiments": experiments_goals,
    "models": models_goals,
}


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Of each repetition, in which both had their turn."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def spread(values: list[float]) -> str:
    """The median, with the range where there are several."""
    range_ = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.2f}{range_}"


# Training


def rates_of(section: dict) -> list[dict]:
    """Images per second of every loop, and ratios between them.

    By arithmetic, batch size and threads.
    """
    rows = []
    for kind, threads in dict.fromkeys((key.split()[0], int(key.split()[3])) for key in section):
        for size in BATCH_SIZES:
            runs = {loop: section.get(f"{kind} {loop} {size} {threads}") for loop in LOOPS}
            rate = {
                loop: [IMAGES["train"] / run["seconds"] for run in found]
                for loop, found in runs.items()
                if found
            }
            row = {"batch size": size, "arithmetic": kind, "threads": threads}
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


def shortest_epoch(run: dict, batch_size: int) -> float:
    """Return the seconds that an epoch takes at the machine's best rates.

    It would take them if it waited for nothing else. Every weight takes part in two operations
    (multiply, add) an image in each of three products: forward, gradient of the weights, gradient
    of the inputs, which the first layer does not need. Validation goes forward only.
    """
    train, validation, widths = IMAGES["train"], IMAGES["validation"], [784, 784, 392, 196, 49, 10]
    products = [inputs * outputs for inputs, outputs in itertools.pairwise(widths)]
    operations = 2 * (train * (3 * sum(products) - products[0]) + validation * sum(products))
    updates = -(-train // batch_size) * MOMENTS * 4 * (sum(products) + sum(widths[1:]))
    return operations / run["flops"] + updates / run["bytes_per_second"]


def training_table(section: dict) -> list[dict]:
    return [
        {title: str(row[title]) for title in ("batch size", "arithmetic", "threads")}
        | {title: f"{row[loop]:,.0f}" for loop, title in LOOPS.items() if loop in row}
        | {
            "here / `model.fit`": spread(row["over keras"]),
            "of the machine's limit": spread(row["of the limit"]),
        }
        for row in rates_of(section)
    ]


def arithmetic_table(section: dict) -> list[dict]:
    """Return seconds of an epoch of ours with portable and with native arithmetic, one thread.

    And the median of their ratios.
    """
    rows = []
    for size in BATCH_SIZES:
        portable, native = (
            [run["seconds"] for run in section[f"{kind} ours {size} 1"]] for kind in KINDS
        )
        rows.append(
            {
                "batch size": str(size),
                "portable": f"{statistics.median(portable):.2f}",
                "native": f"{statistics.median(native):.2f}",
                "portable / native": spread(ratios(portable, native)),
            }
        )
    return rows


# How cost grows


def growth_table(section: dict) -> list[dict]:
    """Medians by stage: seconds, and memory of the process's own."""
    rows = []
    for stage in STAGES:
        runs = {factor: section[f"{stage} {factor}"] for factor in FACTORS}
        seconds, memory = (
            {factor: statistics.median(run[key] for run in runs[factor]) for factor in FACTORS}
            for key in ("seconds", "memory")
        )
        row = {"stage": stage}
        row |= {f"{factor}x: seconds": f"{seconds[factor]:.1f}" for factor in FACTORS}
        row |= {f"{factor}x: MB": f"{memory[factor] / 1e6:.0f}" for factor in FACTORS}
        rows.append(row)
    return rows


def experiments_table(section: dict) -> list[dict]:
    return [
        {
            "experiments": count,
            "seconds": f"{run['seconds']:.0f}",
            "seconds each": f"{run['seconds'] / int(count):.1f}",
            "CPU seconds each": f"{run['cpu'] / int(count):.1f}",
        }
        for count, run in section.items()
    ]


def commits_table(section: dict) -> list[dict]:
    """Medians of seconds by command, in the small and in the large repository."""
    titles = {
        "small": "1 commit before, 1 experiment: seconds",
        "large": f"{COMMITS:,} commits, {COUNTS[-1]} experiments: seconds",
    }
    return [
        {"command": command}
        | {
            title: f"{statistics.median(section[size][command]):.1f}"
            for size, title in titles.items()
        }
        for command in section["large"]
    ]


# Where the seconds go


def stages_table(section: dict) -> list[dict]:
    medians = {part: statistics.median(values) for part, values in section.items()}
    total = sum(medians.values())
    return [
        {"part of run-1": part, "seconds": f"{value:.1f}", "share": f"{value / total:.0%}"}
        for part, value in medians.items()
    ] + [{"part of run-1": "all", "seconds": f"{total:.1f}", "share": "100%"}]


def costs_table(section: dict) -> list[dict]:
    return [
        {
            "experiment": name,
            "minutes, alone on both cores": f"{cost['seconds'] / 60:.1f}",
            "CPU minutes": f"{cost['cpu'] / 60:.1f}",
        }
        for name, cost in section.items()
    ]


TABLES = {  # by name, with the section that each is made of
    "training": (training_table, "training"),
    "arithmetic": (arithmetic_table, "training"),
    "growth": (growth_table, "data"),
    "many": (experiments_table, "experiments"),
    "commits": (commits_table, "commits"),
    "parts": (stages_table, "stages"),
    "costs": (costs_table, "models"),
}
