"""Each command that a message recommends is run in the situation in which it is recommended."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.repository import PROJECT, Repository

SCENARIOS: dict[str, Callable[[Repository, Path], None]] = {}
FAILED = {"dvc {}", "git {}"}  # not recommended: messages name them as they fail
ELSEWHERE = {
    "git add {} metrics plots": "test_sharing.py",
    "git checkout {} && make verify": "tools/test_verify.py",
    "make demo": "tools/test_demo.py",
    "make noise": "tools/test_check.py",
    "pip install -r requirements.txt": "stages/test_declarations.py",
    "pip install -r requirements/app.txt": "tools/test_app.py",
    "pip install -r requirements/ray.txt": "tools/test_ray.py",
    "ray start --head": "tools/test_ray.py",
}
EXPERIMENTS, PREDICT, CHECK = "tools.experiments", "tools.predict", "tools.gate.check"


def remedy(*commands: str) -> Callable:
    """Register a scenario that runs these commands; {} stands for what varies in a message."""

    def register(scenario: Callable) -> Callable:
        SCENARIOS.update(dict.fromkeys(commands, scenario))
        return scenario

    return register


def recommended(source: str) -> set[str]:
    """Return the commands in backticks in a source, without its docstrings and comments."""
    code = re.sub(r'"""[\s\S]*?"""|^ *# .*|  # .*', "", source, flags=re.MULTILINE)
    commands = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", code)
    return {re.sub(r"\{.*?\}", "{}", command) for command in commands}


def shell(project: Repository, command: str) -> str:
    """Run a command as it was recommended; return its output."""
    program, *arguments = shlex.split(command)
    return project.make(*arguments) if program == "make" else project.run("bash", "-c", command)


@remedy("dvc pull", "dvc repro")
def corrupted_files(project, tmp_path):
    project.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    project.dvc("push")
    cached = project.cached("models/model.keras")
    cached.chmod(0o644)
    cached.write_text("corrupted")
    (project.folder / "metrics/test.json").write_text("{}")
    output = project.python("tools.fsck")
    assert f"{cached}: corrupted" in output and "`dvc pull` fetches it" in output
    shell(project, "dvc pull")
    assert cached.exists()
    images = project.folder / "data/prepared/train_images.npy"
    times, content = images.stat(), images.read_bytes()
    images.write_bytes(content[:-1] + b"x")
    os.utime(images, ns=(times.st_atime_ns, times.st_mtime_ns))  # by which DVC trusts it
    output = project.python("tools.fsck")
    for file in ("data/prepared/train_images.npy", "metrics/test.json"):
        assert f"{file}: differs from dvc.lock. `dvc repro` rebuilds it" in output
    shell(project, "dvc repro")
    assert images.read_bytes() == content
    assert project.python("tools.fsck", "--all") == ""
    assert project.run("git", "status", "--porcelain") == ""


@remedy("dvc checkout", "make", "dvc repro prepare")
@pytest.mark.slow
def model_or_data_gone(project, tmp_path):
    model, readme = project.folder / "models/model.keras", "tools.report.readme"
    project.dvc("exp", "apply", "short")
    project.run("git", "checkout", "--quiet", "--force", "main")
    assert "`dvc checkout` restores" in project.python(readme, status=1)
    shell(project, "dvc checkout")
    project.python(readme)
    assert b"Not measured yet" in project.read("README.md")  # over seeds
    model.unlink()
    assert "`make` trains it" in project.python(PREDICT, "--test", "0", status=1)
    shell(project, "make")
    assert model.exists()
    shutil.rmtree(project.folder / "data/prepared")
    output = project.python(PREDICT, "--test", "0", status=1)
    assert "`dvc repro prepare` rebuilds it" in output
    shell(project, "dvc repro prepare")
    assert (project.folder / "data/prepared/test_images.npy").exists()


@remedy("git checkout {}")
def params_gone(project, tmp_path):
    (project.folder / "params.yaml").unlink()
    assert "`git checkout params.yaml`" in project.python(EXPERIMENTS, status=1)
    shell(project, "git checkout params.yaml")
    assert "short: " in project.python(EXPERIMENTS)


@remedy("git checkout {} && dvc repro --pull")
def model_of_an_experiment_gone(project, tmp_path):
    project.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    project.dvc("exp", "apply", "short")
    cached = project.cached("models/model.keras")
    project.run("git", "checkout", "--quiet", "--force", "main")
    project.dvc("checkout", "--quiet")
    cached.unlink()
    output = project.python(PREDICT, "--test", "0", "--rev", "short", status=1)
    shell(project, re.search(r"`(git checkout \w+ && dvc repro --pull)`", output)[1])
    assert cached.exists()


@remedy('make fsck ARGS="--all"')
@pytest.mark.slow
def model_of_an_experiment_corrupted(project, tmp_path):
    project.dvc("exp", "apply", "short")
    cached = project.cached("models/model.keras")
    project.run("git", "checkout", "--quiet", "--force", "main")
    project.dvc("checkout", "--quiet")
    for repairs in (['make fsck ARGS="--all"', "make experiments"], ["make experiments"]):
        cached.chmod(0o644)
        cached.write_bytes(b"PK")
        cached.chmod(0o444)
        output = project.python(PREDICT, "--test", "0", "--rev", "short", status=1)
        assert '`make fsck ARGS="--all"` says what to do' in output
        first, *_ = [shell(project, repair) for repair in repairs]
        assert f"{cached}: corrupted, so it was removed from the cache" in first
        assert cached.stat().st_size > 2


@remedy("git fetch --unshallow")
def shallow_clone(project, tmp_path):
    shallow = project.clone(tmp_path / "clone", "--depth=1")
    for module, status in ((EXPERIMENTS, 1), (CHECK, 2)):
        assert "`git fetch --unshallow`" in shallow.python(module, status=status)
    shell(shallow, "git fetch --unshallow")
    assert "this commit has no experiments yet" in shallow.python("tools.report", status=1)


@remedy('make experiments ARGS="--replace"', "git stash", "make experiments")
@pytest.mark.slow
def changes_that_are_not_committed(project, tmp_path):
    listing = ("git", "for-each-ref", "refs/exps")
    before = project.run(*listing)
    project.set("train.learning_rate=0.01")
    assert "train.learning_rate: 0.001 -> 0.01" in project.python(EXPERIMENTS, status=1)
    assert "The experiments stay as they are" in project.python("tools.rebuild")
    assert project.run(*listing) == before
    shell(project, "git stash")
    assert "short: up to date" in project.python(EXPERIMENTS)
    project.run("git", "stash", "pop")
    shell(project, 'make experiments ARGS="--replace"')
    assert project.run(*listing) != before
    project.commit()
    assert "`make experiments` runs them" in project.python("tools.report", status=1)
    shell(project, "make experiments")
    project.python("tools.report")


@remedy("git add")
def code_that_git_does_not_track(project, tmp_path):
    project.run("git", "rm", "--quiet", "--cached", "stages/plot.py")
    project.run("git", "commit", "--quiet", "--message", "Forgotten")
    (tmp_path / "ignore").write_text("*.py\n")  # the user's own, which hides nothing
    project.run("git", "config", "core.excludesFile", str(tmp_path / "ignore"))
    assert "`git add` it, or remove it" in project.python(EXPERIMENTS, status=1)
    project.run("git", "config", "--unset", "core.excludesFile")
    shell(project, "git add stages/plot.py")
    check = "from tools.experiments.up_to_date import *; check_workspace()"
    assert project.run(sys.executable, "-c", check) == ""


@remedy("git fetch {} && git remote set-head {} --auto", "git fetch origin")
def branches_that_the_clone_does_not_know(project, tmp_path):
    project.run("git", "branch", "--move", "trunk")
    other = project.clone(tmp_path / "clone")
    other.run("git", "remote", "set-head", "origin", "--delete")
    other.run("git", "update-ref", "-d", "refs/remotes/origin/trunk")
    assert "`git fetch origin`" in other.python(CHECK, status=2, GITHUB_BASE_REF="trunk")
    shell(other, "git fetch origin")
    other.run("git", "rev-parse", "--verify", "refs/remotes/origin/trunk")
    output = other.python(CHECK, status=2)
    shell(other, re.search("`(git fetch .*?)`", output.replace("\n", " "))[1])
    program = "from tools.gate.baseline import *; print(find_baseline(None, False)[1])"
    found = other.run(sys.executable, "-c", program)
    assert found.startswith("the commit before HEAD; the remote's default branch contains HEAD")


@remedy("git init && git add -A && git commit -m first", "git clone")
def no_git_repository(project, tmp_path):
    shutil.rmtree(project.folder / ".git")
    output = project.python(EXPERIMENTS, status=1)
    assert "this folder is no Git repository with a commit" in output
    shell(project, "git init && git add -A && git commit -m first")
    assert project.python("tools.fsck") == ""
    assert project.clone(tmp_path / "clone").python("tools.fsck") == ""


@remedy("git log", "git log {}", "dvc exp list --all-commits")
def revision_that_is_not_there(project, tmp_path):
    output = project.python(CHECK, "--baseline", "shrot", status=2)
    assert "`git log` and `dvc exp list --all-commits`" in output
    assert "commit " in shell(project, "git log")
    assert "short" in shell(project, "dvc exp list --all-commits")
    first = shell(project, "git rev-list --max-parents=0 HEAD").strip()
    output = project.python("tools.report", first, status=1)
    command = re.search("has no .*`(git log .*)` lists commits with it", output)[1]
    assert "commit " in shell(project, command)


@remedy("git remote add {} URL", "git push", "dvc remote add --default NAME ADDRESS")
def nothing_that_nodes_could_clone(project, tmp_path):
    def refusal() -> str:
        check = "from tools.experiments.ray import *\ntry: check_remotes()\n"
        check += "except UserError as error: print(error)"
        return project.run(sys.executable, "-c", check)

    assert "`git remote add origin URL`" in refusal()
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    shell(project, f"git remote add origin {tmp_path / 'origin.git'}")
    assert "`git push` it" in refusal()
    shell(project, "git push -u origin HEAD")
    assert "`dvc remote add --default NAME ADDRESS`, then commit and push" in refusal()
    shell(project, f"dvc remote add --default store {tmp_path / 'store'}")
    shell(project, "git commit -am store && git push")
    assert refusal() == ""


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, marks=getattr(scenario, "pytestmark", ()), id=scenario.__name__)
        for scenario in dict.fromkeys(SCENARIOS.values())
    ],
)
def test_the_recommended_commands_help(scenario, committed, tmp_path):
    scenario(committed.copy(tmp_path / "project"), tmp_path)


def test_every_recommended_command_is_run_by_a_test():
    folders = [PROJECT / name for name in ("fashion", "stages", "tools")]
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    found = set().union(*map(recommended, sources))
    assert found == SCENARIOS.keys() | ELSEWHERE.keys() | FAILED
    assert all((PROJECT / "tests" / name).exists() for name in ELSEWHERE.values())


def test_a_command_in_a_message_is_found():
    source = (
        'def f():\n    """Not `this`."""\n    raise E(f"`git checkout {y.z}` helps")  # nor `a`\n'
    )
    assert recommended(source) == {"git checkout {}"}
