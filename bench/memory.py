"""Does memory grow with the data?  `python -m bench.memory`

Repeats the images of the real data 1, 16 and 100 times, and runs `prepare`, one epoch of `train`
and `evaluate` on each. Prints a table: each stage's own memory at its peak, without pages of mapped
files, which the system takes back when it likes, and its microseconds an image. It takes half an
hour and 20 GB of disk.
"""

import argparse
import gzip
import struct
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from fashion.errors import UserError, exit_on_user_error
from fashion.idx import UINT8, iterate_idx, read_idx_shape
from stages.dataset import DATASET, read_dataset
from tests.support.repository import Repository, copy_project
from tools.arguments import positive_int
from tools.dataset import describe_dataset, write_dataset

RAW = Path("data/raw")
INTERVAL = 0.02  # seconds between two looks at a stage's memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="memory", description=__doc__.split("\n")[0])
    parser.add_argument("--times", metavar="N", type=positive_int, nargs="+", default=[1, 16, 100])
    times = parser.parse_args().times
    if not RAW.is_dir():
        raise UserError(f"{RAW}: no data yet. `dvc repro` fetches it")
    rows = []
    for factor in times:
        with TemporaryDirectory(prefix="memory-") as folder:
            images = repeat_data(project := copy_project(Path(folder)), factor)
            for stage in ("prepare", "train", "evaluate"):
                rows.append({"times": factor, "stage": stage} | measure(project, stage, images))
                print(rows[-1], flush=True)
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"))


def repeat_data(project: Repository, factor: int) -> dict[str, int]:
    """Give a project the real data `factor` times over; return how many images a stage reads."""
    dataset, raw = read_dataset(), project.folder / RAW
    raw.mkdir(parents=True)
    for _, file in dataset.files:
        count, *item = read_idx_shape(RAW / file.name)
        shape = (count * factor, *item)
        with gzip.open(raw / file.name, "wb", compresslevel=1) as target:
            target.write(bytes([0, 0, UINT8, len(shape)]))
            target.write(struct.pack(f">{len(shape)}I", *shape))
            for _ in range(factor):
                for piece in iterate_idx(RAW / file.name, (count, *item)):
                    target.write(piece.tobytes())
    write_dataset(
        describe_dataset(raw, dataset.name, dataset.class_names), project.folder / DATASET
    )
    project.set("train.epochs=1", "prepare.validation_size=0.1")
    training, test = (
        factor * read_idx_shape(RAW / file.name)[0]
        for file in (dataset.files.train_labels, dataset.files.test_labels)
    )
    return {"prepare": training + test, "train": training, "evaluate": test}


def measure(project: Repository, stage: str, images: dict[str, int]) -> dict[str, float]:
    """Run a stage; its memory is what Linux calls anonymous."""
    start, peak = time.perf_counter(), 0
    words = [sys.executable, "-m", f"stages.{stage}"]
    with subprocess.Popen(words, cwd=project.folder, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(INTERVAL)
    if process.returncode:
        raise UserError(f"{stage} failed")
    seconds = time.perf_counter() - start
    return {
        "own memory, MB": peak / 1e6,
        "seconds": seconds,
        "microseconds an image": 1e6 * seconds / images[stage],
    }


def anonymous(pid: int) -> int:
    """Bytes of memory that a process does not share with files; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")]
    return 1024 * sum(sizes)


if __name__ == "__main__":
    with exit_on_user_error("memory"):
        main()
