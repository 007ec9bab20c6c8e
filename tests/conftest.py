"""A small copy of this project, built once on drawn garments; each test that needs a repository gets a copy of that."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from stages.params import read_params
from tools.demo import describe_data_set, draw_data_set
from tools.dvc import environment

PROJECT = Path(__file__).parents[1]
IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Test"), ("EMAIL", "test@example.com"))
}


class Repository:
    """A Git and DVC repository in a temporary folder, used by commands, as a person would."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, *words: str, status: int | None = 0, **variables: str) -> str:
        """Run a command; return what it printed, standard error included. `status` is what it must exit with."""
        result = subprocess.run(
            words,
            cwd=self.folder,
            env=environment(**IDENTITY) | {"FASHION_MNIST_DIR": ""} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert status in (None, result.returncode), f"{' '.join(words)} exited with {result.returncode}:\n{result.stdout}"
        return result.stdout

    def python(self, module: str, *arguments: str, **keywords) -> str:
        return self.run(sys.executable, "-m", module, *arguments, **keywords)

    def dvc(self, *arguments: str, **keywords) -> str:
        return self.python("dvc", *arguments, **keywords)

    def commit(self, message: str = "change") -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def set_params(self, *assignments: str) -> None:
        """Change params.yaml: "train.epochs=3"."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            *sections, key = name.split(".")
            section = params
            for part in sections:
                section = section[part]
            section[key] = yaml.safe_load(value)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def results(self) -> dict[str, bytes]:
        """Every file that the pipeline's outputs consist of, and dvc.lock, by path."""
        folders = ("data", "models", "metrics", "plots")
        files = [path for folder in folders for path in (self.folder / folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in (*files, self.folder / "dvc.lock")}


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first test process fills by `make`; the others, where there are several, wait for it."""
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
    files = read_params(PROJECT / "params.yaml").data.files
    return made_once(tmp_path_factory, "drawings", lambda folder: draw_data_set(files, folder, training=1200, test=400))


@pytest.fixture(scope="session")
def built(tmp_path_factory, drawings) -> Path:
    """The project on the drawings, small enough for a test, its pipeline run and all of it committed."""

    def build(folder: Path) -> None:
        repository = Repository(folder)
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=PROJECT, capture_output=True, check=True).stdout
        for name in os.fsdecode(names).rstrip("\0").split("\0"):
            if (PROJECT / name).is_file() and not name.startswith(("metrics/", "plots/", "dvc.lock")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, folder / name)
        repository.set_params(
            *describe_data_set(read_params(PROJECT / "params.yaml").data.files, drawings),
            f"data.sources=['{drawings}']",
            "prepare.validation_size=200",
            "model.hidden_units=[32, 16]",
            "train.epochs=2",
            "train.batch_size=32",
        )
        repository.run("git", "init", "--quiet", "--initial-branch=main")
        repository.commit("The project")
        repository.dvc("repro")
        repository.commit("Its results")

    return made_once(tmp_path_factory, "built", build)


@pytest.fixture(scope="session")
def compared(built, tmp_path_factory) -> Callable[[Path], Repository]:
    """Copies of a repository in which `experiments` has run two small experiments, short and longer."""

    def compare(folder: Path) -> None:
        shutil.copytree(built, folder / "project", symlinks=True)
        repository = Repository(folder / "project")
        repository.set_params("experiments={short: {train.epochs: 1}, longer: {train.epochs: 3, train.batch_size: 64}}")
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
    folder = tmp_path / "project"
    shutil.copytree(built, folder, symlinks=True)
    return Repository(folder)
