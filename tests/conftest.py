"""A small copy of this project, built once on drawn garments.

Each test that needs a repository gets a copy of that.
"""

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from stages.dataset import read_dataset
from tests.support.repository import PROJECT, Repository, small_project
from tools.demo import draw_data_set


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
        repository.dvc("repro")
        repository.commit("Its results")

    return made_once(tmp_path_factory, "built", build)


@pytest.fixture(scope="session")
def compared(built, tmp_path_factory) -> Callable[[Path], Repository]:
    """Return copies of a repository in which `experiments` has run.

    It has run two small experiments, short and longer.
    """

    def compare(folder: Path) -> None:
        repository = Repository(built).copy(folder / "project")
        repository.set(
            "experiments={short: {train.epochs: 1},"
            " longer: {train.epochs: 3, train.batch_size: 64}}"
        )
        repository.commit("Two small experiments")
        (folder / "output").write_text(repository.python("tools.experiments"))

    original = made_once(tmp_path_factory, "compared", compare)

    def copy(target: Path) -> Repository:
        shutil.copytree(original, target, symlinks=True, dirs_exist_ok=True)
        return Repository(target / "project")

    return copy


@pytest.fixture
def repository(built, tmp_path) -> Repository:
    """A built repository of the test's own."""
    return Repository(built).copy(tmp_path / "project")


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
