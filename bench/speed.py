"""How fast is the pipeline?  `make bench` (`python -m bench.speed`)

Measures what docs/ claims of speed, on the last commit and the real data. Rivals take turns, and a
ratio is the median of the repetitions' ratios. Writes bench/results/speed.json. It takes 25 minutes
on two quiet cores; `--only SECTION` measures a part and leaves the others as they were.
"""

import gzip
import itertools
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from joblib import cpu_count
from PIL import Image

from bench.measure import Groups, Rows, alternate, measure, record, table
from fashion.core.dataset import DATASET, read_dataset
from fashion.core.environment import ARITHMETIC, PORTABLE_X86_64, THREAD_COUNTS, THREADS
from fashion.core.errors import UserError
from tests.support.repository import Repository
from tools.arguments import parser_of, positive_int
from tools.dataset import describe_dataset, write_dataset
from tools.dvc import dvc
from tools.git import local_clone
from tools.process import command_line

RAW = Path("data/raw")
KINDS = {"portable": PORTABLE_X86_64, "native": {}}  # of arithmetic: what the rival needs for it
SINGLE_THREAD = dict.fromkeys([THREADS, *THREAD_COUNTS], "1")
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
EPOCHS = 3  # of a training whose epochs are timed; the first, which compiles, does not count


def end_to_end(repetitions: int | None, _: bool) -> Groups:
    """From the raw files to three compared experiments: `make` and a plain script."""

    def ours(kind: str) -> dict[str, float]:
        with clone() as folder:
            return measure(folder, "-m", "tools.rebuild", **{ARITHMETIC: kind, **KINDS[kind]})

    def plain(kind: str) -> dict[str, float]:
        with clone("fetch") as folder, TemporaryDirectory() as out:
            return measure(folder, "-m", "bench.baseline", out, **{ARITHMETIC: kind, **KINDS[kind]})

    return {
        f"{kind} arithmetic": alternate(
            {"`make`": partial(ours, kind), "plain script": partial(plain, kind)},
            repetitions or 2,
            "seconds",
        )
        for kind in KINDS
    }


def commands(repetitions: int | None, _: bool) -> Groups:
    """Commands that one waits for again and again, in a project whose experiments have run."""
    measured = {}
    with clone("prepare") as folder:
        runs = ", ".join(f"run-{i}: {{train.epochs: {i}}}" for i in (1, 2, 3))
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
            measured[name] = alternate(turns, repetitions or 10, "seconds")
    return measured


def training(repetitions: int | None, smoke: bool) -> Groups:
    """Epochs of the train stage and of `model.fit`, by batch size, arithmetic and threads.

    Portable arithmetic has one thread (fashion/core/environment.py).
    """
    measured, sizes = {}, [64] if smoke else [64, 128, 256]
    with clone("prepare") as folder, TemporaryDirectory() as out:
        rivals = {"here": ["stages.train"], "`model.fit`": ["bench.baseline", out]}
        kinds = [("portable", 1)] + [("native", n) for n in sorted({1, cpu_count()})]
        for (kind, threads), size in itertools.product(kinds[: 1 if smoke else None], sizes):
            Repository(folder).set(
                f"train.epochs={EPOCHS}",
                f"train.batch_size={size}",
                f"experiments={{run: {{train.epochs: {EPOCHS}, train.batch_size: {size}}}}}",
            )
            env = {ARITHMETIC: kind} | KINDS[kind] | dict.fromkeys(SINGLE_THREAD, str(threads))
            turns = {
                rival: partial(measure, folder, "-m", *words, **env)
                for rival, words in rivals.items()
            }
            group = f"batch {size}, {kind}, {threads} thread{'s' * (threads > 1)}"
            measured[group] = alternate(turns, repetitions or 1, "seconds an epoch")
    return measured


def growth(repetitions: int | None, smoke: bool) -> Groups:
    """Each stage on one thread, with the images repeated."""
    measured = {stage: {} for stage in ("prepare", "train", "evaluate")}
    for factor in (2,) if smoke else (1, 16, 100):
        with grown_project(factor) as folder:
            for stage, taken in measured.items():
                run = partial(measure, folder, "-m", f"stages.{stage}", **SINGLE_THREAD)
                taken |= alternate({f"{factor}x": run}, repetitions or 1, "seconds", "MB")
    return measured


@contextmanager
def clone(stage: str = "") -> Iterator[Path]:
    """Yield a clone of the last commit, with its own cache, in which a stage has run."""
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name).resolve()
        local_clone(folder)
        if stage:
            dvc("repro", "--quiet", stage, folder=folder)
        yield folder


@contextmanager
def grown_project(factor: int) -> Iterator[Path]:
    """Yield a clone whose data is this project's, repeated `factor` times.

    A tenth of it is for validation, and training is one epoch of a tiny network in large batches,
    so that time and memory are those of the data.
    """
    dataset = read_dataset()
    with clone() as folder:
        (folder / RAW).mkdir(parents=True)
        for _, file in dataset.files:
            repeat_items(RAW / file.name, folder / RAW / file.name, factor)
        described = describe_dataset(folder / RAW, dataset.name, dataset.class_names)
        write_dataset(described, folder / DATASET)
        small = ["prepare.validation_size=0.1", "model.hidden_units=[8]"]
        Repository(folder).set(*small, "train.epochs=1", "train.batch_size=1000")
        yield folder


def repeat_items(source: Path, target: Path, factor: int) -> None:
    """Write a gzip-compressed IDX file with the items of `source`, `factor` times.

    Items are compressed once, as a gzip file may consist of several parts (RFC 1952).
    """
    with gzip.open(source) as file:
        content = file.read()
    items = 4 + 4 * content[3]  # where they start: after the magic number and each dimension's size
    count = factor * int.from_bytes(content[4:8])
    with target.open("wb") as file:
        file.write(gzip.compress(content[:4] + count.to_bytes(4) + content[8:items]))
        file.writelines(itertools.repeat(gzip.compress(content[items:], compresslevel=6), factor))


MEASURED = (end_to_end, commands, training, growth)
SECTIONS = {section.__name__.replace("_", "-"): section for section in MEASURED}


def to_tables(sections: dict[str, Groups]) -> dict[str, Rows]:
    return {name: table(groups) for name, groups in sections.items()}


def main() -> None:
    parser = parser_of("bench", __doc__)
    parser.add_argument(
        "--only", metavar="SECTION", nargs="+", choices=SECTIONS, default=list(SECTIONS)
    )
    parser.add_argument("--repetitions", metavar="N", type=positive_int)
    parser.add_argument("--smoke", action="store_true", help="the least of each, not recorded")
    arguments = parser.parse_args()
    if not RAW.is_dir():
        raise UserError(f"{RAW} is missing. `dvc repro` fetches it")
    os.environ["FASHION_MNIST_DIR"] = str(RAW.resolve())  # from which clones fetch it
    repetitions = 1 if arguments.smoke else arguments.repetitions
    for name in arguments.only:
        measured = SECTIONS[name](repetitions, arguments.smoke)
        print(pd.DataFrame(table(measured)).to_markdown(index=False, disable_numparse=True), "\n")
        if not arguments.smoke:
            record("speed", name, measured, to_tables)


if __name__ == "__main__":
    with command_line("bench"):
        main()
