"""Measure how fast the pipeline is: `make bench` (`python -m bench.speed`).

It uses the last commit and the real data. The pipeline and its rival take turns, and a ratio is the
median of the repetitions' ratios. Writes bench/results/speed.json. It takes 21 minutes on two idle
cores; `--only SECTION` measures some sections and keeps the results of the others.
"""

import gzip
import itertools
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from joblib import cpu_count
from PIL import Image

from bench.measure import RAW, Groups, Rows, alternate, clone, measure, record, table
from fashion.core.dataset import DATASET, read_dataset
from fashion.core.environment import PORTABLE_X86_64, THREAD_COUNTS, THREADS
from tests.support.repository import Repository
from tools.arguments import parser_of, positive_int
from tools.dataset import describe_dataset, write_dataset
from tools.process import command_line

ARITHMETICS = {"portable": PORTABLE_X86_64, "native": {}}  # variables, for Keras without our code
THREAD_VARIABLES = [THREADS, *THREAD_COUNTS]
ONE_THREAD = dict.fromkeys(THREAD_VARIABLES, "1")
TINY_TRAINING = ("model.hidden_units=[8]", "train.epochs=1", "train.batch_size=1000")
COMMANDS = {  # arguments of Python; stages come last, as DVC reads again what they write
    "`make` with nothing to do, against `dvc status`": ["-m tools.rebuild", "-m dvc status"],
    "`make predict` of a picture, against `import tensorflow`": [
        "-m tools.predict picture.png",
        "-c 'import tensorflow'",
    ],
    "`python -m stages.evaluate`, against `import tensorflow, keras`": [
        "-m stages.evaluate",
        "-c 'import tensorflow, keras'",
    ],
    "`python -m stages.plot`": ["-m stages.plot"],
}
BATCH_SIZES = (64, 128, 256)
EPOCHS = 3  # of a training whose epochs are timed; the first, which compiles, does not count
FACTORS = (1, 16, 100)  # how often the images are repeated


def end_to_end(repetitions: int | None) -> Groups:
    """Compare `make` with a plain script, from the raw files to three compared experiments."""

    def run(arithmetic: str, stage: str, *words: str) -> dict[str, float]:
        with clone(stage) as folder:
            Repository(folder).set(f"arithmetic={arithmetic}")
            return measure(folder, "-m", *words, **ARITHMETICS[arithmetic])

    measured = {}
    with TemporaryDirectory() as out:
        for arithmetic in ARITHMETICS:
            rivals = {
                "`make`": partial(run, arithmetic, "", "tools.rebuild"),
                "plain script": partial(run, arithmetic, "fetch", "bench.baseline", out),
            }
            measured[f"{arithmetic} arithmetic"] = alternate(rivals, repetitions or 1, "seconds")
    return measured


def commands(repetitions: int | None) -> Groups:
    """Time commands that users type often, in a project whose experiments have run."""
    measured = {}
    with clone("prepare") as folder:
        runs = ", ".join(f"epochs-{i}: {{train.epochs: {i}}}" for i in (1, 2, 3))
        Repository(folder).set(f"experiments={{{runs}}}")
        measure(folder, "-m", "tools.rebuild")
        image = np.load(folder / "data/prepared/test_images.npy", mmap_mode="r")[0]
        Image.fromarray(image).save(folder / "picture.png")
        for name, rivals in COMMANDS.items():
            turns = {
                rival: partial(measure, folder, *shlex.split(words))
                for rival, words in zip(("here", "rival"), rivals, strict=False)
            }
            alternate(turns, 1)  # so that files and modules are in memory
            measured[name] = alternate(turns, repetitions or 5, "seconds")
    return measured


def experiment(repetitions: int | None) -> Groups:
    """Measure an experiment whose training takes about a second: what is around a training."""
    seeds, words = itertools.count(1), ("-m", "dvc", "exp", "run")
    with clone("prepare") as folder:
        Repository(folder).set(*TINY_TRAINING)
        turn = {"": lambda: measure(folder, *words, f"-Sseed={next(seeds)}", **ONE_THREAD)}
        return {"`dvc exp run`": alternate(turn, repetitions or 3, "CPU seconds", "seconds")}


def training(repetitions: int | None) -> Groups:
    """Time epochs of the train stage and of `model.fit`, by batch size and arithmetic.

    Portable arithmetic has one thread (fashion/core/environment.py), native one per core.
    """
    measured, settings = {}, [("portable", 1), ("native", cpu_count())]
    with clone("prepare") as folder, TemporaryDirectory() as out:
        rivals = {"here": ["stages.train"], "`model.fit`": ["bench.baseline", out]}
        for (arithmetic, threads), size in itertools.product(settings, BATCH_SIZES):
            params = {"train.epochs": EPOCHS, "train.batch_size": size, "arithmetic": arithmetic}
            assignments = [f"{name}={value}" for name, value in params.items()]
            Repository(folder).set(*assignments, f"experiments={{run: {json.dumps(params)}}}")
            variables = ARITHMETICS[arithmetic] | dict.fromkeys(THREAD_VARIABLES, str(threads))
            turns = {
                rival: partial(measure, folder, "-m", *words, **variables)
                for rival, words in rivals.items()
            }
            group = f"batch {size}, {arithmetic}, {threads} thread{'s' * (threads > 1)}"
            measured[group] = alternate(turns, repetitions or 1, "seconds an epoch")
    return measured


def growth(repetitions: int | None) -> Groups:
    """Measure each stage on one thread, by how often the images are repeated."""
    measured = {stage: {} for stage in ("prepare", "train", "evaluate")}
    for factor in FACTORS:
        with grown_project(factor) as folder:
            for stage, rivals in measured.items():
                run = partial(measure, folder, "-m", f"stages.{stage}", **ONE_THREAD)
                rivals |= alternate({f"{factor}x": run}, repetitions or 1, "seconds", "MB")
    return measured


@contextmanager
def grown_project(factor: int) -> Iterator[Path]:
    """Yield a clone whose data is this project's, repeated `factor` times.

    A tenth of it is for validation, and training is one epoch of a tiny network in large batches,
    so that time and memory depend on the data.
    """
    dataset = read_dataset()
    with clone() as folder:
        (folder / RAW).mkdir(parents=True)
        for _, file in dataset.files:
            repeat_items(RAW / file.name, folder / RAW / file.name, factor)
        described = describe_dataset(folder / RAW, dataset.name, dataset.class_names)
        write_dataset(described, folder / DATASET)
        Repository(folder).set("prepare.validation_size=0.1", *TINY_TRAINING)
        yield folder


def repeat_items(source: Path, target: Path, factor: int) -> None:
    """Write an IDX file with the items of `source`, `factor` times, packed by gzip if that is.

    Items are compressed once, as a gzip file may consist of several parts (RFC 1952).
    """
    unpack, pack = bytes, bytes  # which change nothing
    if source.suffix == ".gz":
        unpack, pack = gzip.decompress, partial(gzip.compress, compresslevel=6)
    content = unpack(source.read_bytes())
    items = 4 + 4 * content[3]  # where they start: after the magic number and each dimension's size
    count = factor * int.from_bytes(content[4:8])
    with target.open("wb") as file:
        file.write(pack(content[:4] + count.to_bytes(4) + content[8:items]))
        file.writelines(itertools.repeat(pack(content[items:]), factor))


MEASURED = (end_to_end, commands, experiment, training, growth)
SECTIONS = {section.__name__.replace("_", "-"): section for section in MEASURED}


def to_tables(sections: dict[str, Groups]) -> dict[str, Rows]:
    return {name: table(groups) for name, groups in sections.items()}


def main() -> None:
    parser = parser_of("bench", __doc__)
    only = {"nargs": "+", "choices": SECTIONS, "default": SECTIONS}
    parser.add_argument("--only", metavar="SECTION", **only, help=f"of {', '.join(SECTIONS)}")
    repetitions = "of each measurement (by default 1, 3 or 5)"
    parser.add_argument("--repetitions", metavar="N", type=positive_int, help=repetitions)
    arguments = parser.parse_args()
    for name in arguments.only:
        record("speed", name, SECTIONS[name](arguments.repetitions), to_tables)


if __name__ == "__main__":
    with command_line("bench"):
        main()
