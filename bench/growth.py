"""The real data many times over, and what a stage takes of time and memory with it.

It is for the section `data` of bench/speed.py.
"""

import gzip
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from fashion.core.dataset import DATASET, read_dataset
from fashion.core.errors import UserError
from fashion.data.idx import UINT8, iterate_idx, read_idx_shape
from tests.support.repository import Repository
from tools.dataset import describe_dataset, write_dataset
from tools.dvc import subprocess_env
from tools.experiments.local import SINGLE_THREAD_ENV
from tools.git import local_clone

RAW = Path("data/raw")
INTERVAL = 0.02  # seconds between two looks at a stage's memory


@contextmanager
def grown_project(factor: int) -> Iterator[Repository]:
    """Clone the repository that this runs in; its data are there `factor` times.

    A tenth of it is for validation, and training is one epoch of a tiny network: large batches, so
    that what grows is the data. The clone is gone when the block ends.
    """
    with TemporaryDirectory(prefix=f"times-{factor}-", dir=".") as folder:
        local_clone(Path(folder))
        project, dataset = Repository(Path(folder).resolve()), read_dataset()
        raw = project.folder / RAW
        raw.mkdir(parents=True)
        for _, file in dataset.files:
            repeat_items(RAW / file.name, raw / file.name, factor)
        described = describe_dataset(raw, dataset.name, dataset.class_names)
        write_dataset(described, project.folder / DATASET)
        project.set(
            "prepare.validation_size=0.1",
            "model.hidden_units=[8]",
            "train.epochs=1",
            "train.batch_size=1000",
        )
        yield project


def repeat_items(source: Path, target: Path, factor: int) -> None:
    """Write an IDX file whose items are those of `source`, `factor` times over.

    A gzip file may be made of several parts, so that the items are packed once. Neither is ever
    whole in memory.
    """
    count, *item = read_idx_shape(source)
    header = bytes([0, 0, UINT8, 1 + len(item)])
    header += struct.pack(f">{1 + len(item)}I", factor * count, *item)
    with TemporaryDirectory() as folder:
        packed = Path(folder, "items.gz")
        with gzip.open(packed, "wb", compresslevel=6) as file:
            for piece in iterate_idx(source, (count, *item)):
                file.write(piece.tobytes())
        with target.open("wb") as file:
            file.write(gzip.compress(header))
            for _ in range(factor):
                with packed.open("rb") as part:
                    shutil.copyfileobj(part, file)


def watch(project: Repository, stage: str) -> dict[str, float]:
    """Run a stage on one thread; return its seconds and its memory's peak in bytes.

    The memory is what Linux calls anonymous: pages of mapped files are not counted, which the
    system takes back when it likes.
    """
    start, most = time.perf_counter(), 0
    with subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=project.folder,
        env=subprocess_env(**SINGLE_THREAD_ENV),
        stdout=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(INTERVAL)
    if process.returncode:
        raise UserError(f"{stage} failed; its last lines above say why")
    return {"seconds": time.perf_counter() - start, "memory": most}


def anonymous(pid: int) -> int:
    """Bytes of memory that a process does not share with files; 0 when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return 1024 * int(line.split()[1])
    return 0
