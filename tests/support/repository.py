"""Small copies of this project, in which tests run commands as a user would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from fashion.core.dataset import DATASET
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import parse_yaml, read_yaml
from tests.support.fork_server import run_forked, starts_alike
from tools.dataset import describe_dataset, write_dataset
from tools.demo import NAME
from tools.experiments.config import EXPERIMENTS, Experiments
from tools.gate.config import GATE, Gate
from tools.overrides import set_dotted
from tools.synthetic import SHAPES

PROJECT = Path(__file__).parents[2]
STAGES = list(read_yaml(PROJECT / "dvc.yaml")["stages"])  # in an order in which they can run
TOY = Path(__file__).with_name("toy")
# Names that look like numbers, Markdown, HTML or CSV, so that every tool must treat them as text.
TOY_CLASSES = ["T-shirt/top", "0", "007", "1e5", "true", "NA", 'a "b", c', "<b>|$", "Bag", "שלום日"]
IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Test"), ("EMAIL", "test@example.com"))
}

SMALL = ("prepare.validation_size=200", "train.epochs=2", "train.batch_size=32")
# set by CI or by the `make test` that runs the tests; commands must not see them
NOT_OURS = ("DATA_DIR", "FASHION_MNIST_DIR", "CI", "GITHUB_BASE_REF", "GITHUB_EVENT_NAME")
NOT_OURS += ("CI_COMMIT_BEFORE_SHA", "CI_MERGE_REQUEST_DIFF_BASE_SHA", "MAKEFLAGS", "ARGS")


def write_yaml(path: Path, content: dict) -> None:
    """Write a YAML file with its keys in the given order."""
    yaml = YAML(typ="safe")
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(content, path)


def file_of(key: str) -> Path:
    """Return the configuration file that has a key."""
    files = {EXPERIMENTS: Experiments.model_fields, GATE: Gate.model_fields}
    files[DATASET] = ["name", "image_shape", "class_names", "ground", "sources", "files"]
    return next((path for path, keys in files.items() if key in keys), PARAMS)


class Repository:
    """A Git and DVC repository in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(
        self, *words: str, status: int | None = 0, traceback: bool = False, **variables: str
    ) -> str:
        """Run a command; return its output, errors included.

        Fails unless it exits with `status`, where None allows any, or if it prints a traceback
        although `traceback` is false. `python -m` runs in a fork, which starts sooner.
        """
        env = self.env(**variables)
        if words[:2] == (sys.executable, "-m") and starts_alike(env):
            found, output = run_forked(list(words[2:]), self.folder, env)
        else:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            result = subprocess.run(words, cwd=self.folder, env=env, check=False, **pipes)
            found, output = result.returncode, result.stdout
        assert status in (None, found), f"{' '.join(words)} exited with {found}:\n{output}"
        assert traceback or "Traceback" not in output, f"{' '.join(words)}:\n{output}"
        return output

    def python(self, *words: str, **keywords) -> str:
        """Run `python -m` with a module and its arguments."""
        return self.run(sys.executable, "-m", *words, **keywords)

    def env(self, **variables: str) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | IDENTITY | dict.fromkeys(NOT_OURS, "") | {"PATH": path} | variables
        env.pop("TF_CPP_MIN_LOG_LEVEL", None)  # fashion/model/backend.py may have set it
        return env

    def make(self, *arguments: str, status: int | None = 0) -> str:
        """Run `make` with the environment that runs the tests."""
        if not (self.folder / ".venv").exists():
            (self.folder / ".venv").symlink_to(sys.prefix)
        return self.run("make", "--old-file=.venv/bin/installed", *arguments, status=status)

    def dvc(self, *arguments: str, **keywords) -> str:
        return self.python("dvc", *arguments, **keywords)

    def stages(self, *stages: str, cores: str = "", **keywords) -> str:
        """Run stages one after the other in one process, so that TensorFlow is imported once.

        Python has the flags that it has in dvc.yaml.

        `cores` limits it to these cores, "0,1" for the first two.
        """
        program = "import runpy, sys\nfor stage in sys.argv[1:]:\n"
        program += "    runpy.run_module(f'stages.{stage}', run_name='__main__')"
        limit = ("taskset", "--cpu-list", cores) if cores else ()
        return self.run(*limit, sys.executable, "-BEs", "-c", program, *stages, **keywords)

    def commit(self, message: str = "change") -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def experiments(self) -> dict[str, str]:
        """Return the revisions of the experiments of all commits, by name."""
        fields = "--format=%(objectname) %(refname:lstrip=4)"
        lines = self.run("git", "for-each-ref", fields, "refs/exps/*/*/*").splitlines()
        return {name: revision for revision, name in map(str.split, lines)}

    def output_md5(self, path: str) -> str:
        """Return the MD5 of an output in dvc.lock."""
        stages = read_yaml(self.folder / "dvc.lock")["stages"].values()
        return next(out["md5"] for one in stages for out in one["outs"] if out["path"] == path)

    def cached(self, path: str) -> Path:
        """Return the path of an output in DVC's cache."""
        md5 = self.output_md5(path)
        return self.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]

    def clone(self, folder: Path, *options: str) -> "Repository":
        """Clone it with options of `git clone`. A clone has no results that Git does not keep."""
        self.run("git", "clone", "--quiet", *options, self.folder.as_uri(), str(folder))
        return Repository(folder)

    def copy(self, folder: Path) -> "Repository":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Repository(folder)

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def set(self, *assignments: str) -> None:
        """Change a configuration file: "train.epochs=3", "groups={...}" or "sources=[...]"."""
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            path = self.folder / file_of(name.split(".")[0])
            values = read_yaml(path)
            set_dotted(values, name, parse_yaml(value, assignment))
            write_yaml(path, values)

    def slow_training(self, seconds: float) -> None:
        """Make each epoch of the toy pipeline's training take a number of seconds."""
        path = self.folder / "stages/train.py"
        text = path.read_text()
        assert "SECONDS = 0.0" in text
        path.write_text(text.replace("SECONDS = 0.0", f"SECONDS = {seconds}"))

    def results(self) -> dict[str, bytes]:
        """Return the content of every output file and of dvc.lock, by path."""
        folders = [self.folder / name for name in ("data", "models", "metrics", "plots")]
        files = [self.folder / "dvc.lock", *(path for one in folders for path in one.rglob("*"))]
        # a killed DVC leaves temporary files, which Git ignores
        files = [one for one in files if one.is_file() and not one.match(".*.tmp")]
        return {str(one.relative_to(self.folder)): one.read_bytes() for one in files}


def small_project(folder: Path, data: Path) -> Repository:
    """Copy the workspace without results into a new repository, and commit it.

    Its data is the synthetic data in the folder `data`, and its params are small.
    """
    repository = copy_project(folder)
    write_dataset(describe_dataset(data, NAME, list(SHAPES)), folder / DATASET)
    repository.set(*SMALL, "train.batch_size=36", "model.hidden_units=[32, 16]")
    repository.commit("The project")
    return repository


def toy_project(folder: Path) -> Repository:
    """Copy the workspace with the toy pipeline's stages into a new repository, and commit it.

    The stages write the same kinds of files in a tenth of a second each, without TensorFlow.
    """
    repository = copy_project(folder, leave_out=("tests/", "bench/", "docs/", "requirements/"))
    for stage in (folder / "stages").glob("*.py"):
        stage.unlink()
    shutil.copy(TOY / "dvc.yaml", folder)
    copy_toy_stages(folder, "prepare", "train", "evaluate", "plot")
    repository.set(*SMALL, "name=toy squares", "image_shape=[2, 2]")
    content = read_yaml(folder / DATASET) | {"class_names": TOY_CLASSES}
    write_yaml(folder / DATASET, content)
    repository.commit("The toy pipeline")
    return repository


def copy_toy_stages(folder: Path, *stages: str) -> None:
    """Replace stages of a project with those of the toy pipeline."""
    for stage in ("predictions", *stages):
        shutil.copy(TOY / f"stages/{stage}.py", folder / "stages")


def copy_project(folder: Path, leave_out: tuple[str, ...] = ()) -> Repository:
    """Copy the workspace without results and `leave_out` paths into a new Git repository."""
    results = ("metrics/", "plots/", "dvc.lock")
    repository = Repository(folder)
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=PROJECT, capture_output=True, check=True).stdout
    for name in os.fsdecode(names).rstrip("\0").split("\0"):
        if (PROJECT / name).is_file() and not name.startswith(results + leave_out):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    repository.run("git", "init", "--quiet", "--initial-branch=main")
    return repository
