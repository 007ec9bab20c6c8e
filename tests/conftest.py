"""Build small copies of this project once: with its own stages, and with a toy pipeline.

Each test that needs a repository gets a copy of one.
"""

import os
import re
import shutil
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from compileall import compile_dir
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.repository import PROJECT, STAGES, Repository, small_project, toy_project
from tools.demo import write_synthetic_data

AUDIT = Path(__file__).with_name("stages") / "audit.py"
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:  # four times what tests need
    # faster than a disk, as tests create and remove many small files of Git
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use all cores and one process per test file if pytest-xdist is installed."""
    if config.pluginmanager.hasplugin("xdist") and "PYTEST_XDIST_WORKER" not in os.environ:
        options = config.option
        options.numprocesses = "auto" if options.numprocesses is None else options.numprocesses
        options.dist = "loadfile" if options.dist == "no" else options.dist


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Skip a test file that imports a missing package, except in CI."""
    report = yield
    text = str(report.longrepr) if report.failed and not os.environ.get("CI") else ""
    missing = re.search("ModuleNotFoundError: No module named '([^'.]+)", text)
    if missing and not (PROJECT / missing[1]).exists():
        reason = f"{missing[1]} is not installed: pip install -r requirements/dev.txt"
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, f"Skipped: {reason}")
    return report


@pytest.fixture(scope="session", autouse=True)
def dvc_databases(tmp_path_factory) -> Iterator[None]:
    """Put DVC's databases into the temporary folder instead of /var/tmp."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "dvc"))
        yield


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first test process fills by calling `make`, while others wait."""
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
def synthetic_data(tmp_path_factory) -> Path:
    """Return a folder with the four files of a small synthetic data set."""

    def write(folder: Path) -> None:
        write_synthetic_data(folder, training=1200, test=400)

    return made_once(tmp_path_factory, "synthetic_data", write)


@pytest.fixture(scope="session")
def built(tmp_path_factory, synthetic_data) -> Path:
    """Return a small project whose pipeline has run, with everything committed."""

    def build(folder: Path) -> None:
        repository = small_project(folder, synthetic_data)
        # in one process, which notes what they open for tests/stages/test_declarations.py;
        # tests/stages/test_reproduction.py shows that `dvc repro` writes the same
        (folder / ".dvc/tmp").mkdir()
        repository.run(sys.executable, str(AUDIT), ".dvc/tmp/audit.json", *STAGES)
        repository.dvc("commit", "--force", "--quiet")
        repository.commit("Its results")

    return made_once(tmp_path_factory, "built", build)


@pytest.fixture(scope="session")
def built_toy(tmp_path_factory) -> Path:
    """Return a project with the toy pipeline, which has run, with everything committed."""

    def build(folder: Path) -> None:
        toy = toy_project(folder)
        compile_dir(folder, quiet=1)  # once, not in each copy
        toy.dvc("repro")
        toy.commit("Its results")

    return made_once(tmp_path_factory, "built_toy", build)


@pytest.fixture(scope="session")
def built_comparison(built_toy, tmp_path_factory) -> Path:
    """Return a folder with a toy `project` that has run two experiments, and their `output`."""

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
    """Return a toy project with one experiment and the noise of five seeds, all committed."""

    def record(folder: Path) -> None:
        toy = Repository(built_toy).copy(folder / "project")
        toy.set("experiments={short: {train.epochs: 1}}")
        toy.python("tools.experiments")
        toy.python("tools.gate.noise", "--seeds", "5")
        toy.commit("The table, and noise")
        toy.python("tools.experiments")  # for this commit, too

    return made_once(tmp_path_factory, "built_record", record) / "project"


@pytest.fixture
def repository(built, tmp_path) -> Repository:
    """Return a copy of a built project."""
    return Repository(built).copy(tmp_path / "project")


@pytest.fixture
def toy(built_toy, tmp_path) -> Repository:
    """Return a copy of a built project with the toy pipeline."""
    return Repository(built_toy).copy(tmp_path / "project")


@pytest.fixture
def compared(built_comparison, tmp_path) -> Repository:
    """Return a copy of a toy project that has run two small experiments."""
    shutil.copytree(built_comparison, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Repository(tmp_path / "project")


@pytest.fixture
def committed(built_record) -> Repository:
    """Return a toy project with committed results and noise. Tests only read and clone it."""
    return Repository(built_record)


@pytest.fixture
def memory_below() -> Callable[[int], AbstractContextManager[None]]:
    """Return a context manager that fails if Python and NumPy take more than a number of bytes."""

    @contextmanager
    def below(limit: int) -> Iterator[None]:
        tracemalloc.start()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < limit  # the peak
        finally:
            tracemalloc.stop()

    return below
