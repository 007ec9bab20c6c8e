"""Small copies of this project, built once: on drawn garments, and with a toy pipeline.

Each test that needs a repository gets a copy of one.
"""

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from compileall import compile_dir
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from fashion.core.dataset import read_dataset
from tests.support.repository import (
    PROJECT,
    Repository,
    small_project,
    toy_project,
)
from tools.demo import draw_data_set

MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:  # four times what they take
    # a disk would be waited for: Git's many small files are made and removed all the time
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Iterator[None]:
    """Have one worker more than cores, as one or another waits for Ray or a server."""
    return 1 + (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the groups of pytest-xdist take effect, each on one worker.

    It writes them where pytest no longer reads them since 9.2.
    """
    for item in items:
        if hasattr(item, "_nodeid") and hasattr(item, "_id"):
            item._id = type(item._id).parse(item._nodeid)


@pytest.fixture(scope="session", autouse=True)
def dvc_databases(tmp_path_factory) -> Iterator[None]:
    """Keep what DVC remembers of each repository with the repositories, not in /var/tmp."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "dvc"))
        yield


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first test process fills by `make`.

    The others, where there are several, wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{name}-unfinished")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def drawings(tmp_path_factory) -> Path:
    """The four files, small and drawn."""
    files = read_dataset(PROJECT / "dataset.yaml").files
    return made_once(
        tmp_path_factory,
        "drawings",
        lambda folder: draw_data_set(files, folder, training=1200, test=400),
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory, drawings) -> Path:
    """Build the project on the drawings, small enough for a test.

    Its pipeline has run, and all of it is committed.
    """

    def build(folder: Path) -> None:
        repository = small_project(folder, drawings)
        # in one process; tests/stages/test_reproduction.py shows that `dvc repro` makes the same
        repository.stages("validate", "fetch", "prepare", "train", "evaluate", "plot")
        repository.dvc("commit", "--force", "--quiet")
        repository.commit("Its results")

    return made_once(tmp_path_factory, "built", build)


@pytest.fixture(scope="session")
def built_toy(tmp_path_factory) -> Path:
    """Build the project with the toy pipeline. It has run, and all of it is committed."""

    def build(folder: Path) -> None:
        toy = toy_project(folder)
        compile_dir(folder, quiet=1)  # once, not in each copy
        toy.dvc("repro")
        toy.commit("Its results")

    return made_once(tmp_path_factory, "built_toy", build)


@pytest.fixture(scope="session")
def built_comparison(built_toy, tmp_path_factory) -> Path:
    """A folder with a toy `project` in which two small experiments have run, short and longer.

    What that printed is beside it, in `output`.
    """

    def compare(folder: Path) -> None:
        toy = Repository(built_toy).copy(folder / "project")
        toy.set(
            "experiments={short: {train.epochs: 1},"
            " longer: {train.epochs: 3, train.batch_size: 64}}"
        )
        toy.commit("Two small experiments")
        (folder / "output").write_text(toy.python("tools.experiments"))

    return made_once(tmp_path_factory, "built_comparison", compare)


@pytest.fixture(scope="session")
def built_record(built_toy, tmp_path_factory) -> Path:
    """Build a toy project with one experiment, its table, and the noise of five seeds.

    All of it is committed, as `make` leaves it.
    """

    def record(folder: Path) -> None:
        toy = Repository(built_toy).copy(folder / "project")
        toy.set("experiments={short: {train.epochs: 1}}")
        toy.python("tools.experiments")
        toy.python("tools.gate.noise", "--seeds", "5")
        toy.commit("The table, and noise")
        toy.python("tools.experiments")  # kept with this commit too

    return made_once(tmp_path_factory, "built_record", record) / "project"


@pytest.fixture
def repository(built, tmp_path) -> Repository:
    """A built repository of the test's own."""
    return Repository(built).copy(tmp_path / "project")


@pytest.fixture
def toy(built_toy, tmp_path) -> Repository:
    """A built repository of the test's own, with the toy pipeline."""
    return Repository(built_toy).copy(tmp_path / "project")


@pytest.fixture
def compared(built_comparison, tmp_path) -> Repository:
    """A toy repository of the test's own in which two small experiments have run.

    What that printed is in its folder's neighbour, `output`.
    """
    shutil.copytree(built_comparison, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Repository(tmp_path / "project")


@pytest.fixture
def committed(built_record) -> Repository:
    """A toy repository with all of its results and noise committed.

    It is not the test's own: for reading and for cloning.
    """
    return Repository(built_record)


@pytest.fixture
def memory_below() -> Callable[[int], AbstractContextManager[None]]:
    """A block in which Python and NumPy may take so many bytes at most."""

    @contextmanager
    def below(limit: int) -> Iterator[None]:
        tracemalloc.start()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < limit  # the peak
        finally:
            tracemalloc.stop()

    return below
