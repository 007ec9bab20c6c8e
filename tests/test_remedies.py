"""Every command that a message recommends, run in the situation in which it is recommended."""

import ast
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.repository import PROJECT, Repository

SCENARIOS: dict[str, Callable[[Repository, Path], None]] = {}
# not remedies but commands that failed; what tests/tools/test_{ray,demo,dataset}.py run, and
# tests/test_sharing.py
ELSEWHERE = {"dvc status", "dvc {}", "git {}", "ray start --head", "make demo"}
ELSEWHERE |= {"pip install -r requirements/ray.txt", "python -m tools.dataset SOURCE"}
ELSEWHERE |= {"git add {} metrics plots", "pip install -r requirements/app.txt"}
EXPERIMENTS, PREDICT, CHECK = "tools.experiments", "tools.predict", "tools.gate.check"


def remedy(*commands: str) -> Callable:
    """Register a scenario that runs the commands."""

    def register(scenario: Callable) -> Callable:
        SCENARIOS.update(dict.fromkeys(commands, scenario))
        return scenario

    return register


def recommended() -> set[str]:
    """Return the commands in backticks in all texts of the code but docstrings."""
    floors = [PROJECT / name for name in ("fashion", "stages", "tools")]
    sources = [path.read_text() for floor in floors for path in floor.rglob("*.py")]
    found = [text for source in sources for text in texts(source)]
    return {command for text in found for command in re.findall(r"`([^`]+)`", text)}


def texts(source: str) -> list[str]:
    """Return the strings in a source but docstrings; in f-strings, {} is what varies."""
    nodes = list(ast.walk(ast.parse(source)))
    aside = {  # docstrings, and parts of f-strings
        child
        for node in nodes
        if isinstance(node, ast.Expr | ast.JoinedStr)
        for child in ast.iter_child_nodes(node)
    }
    strings = [node for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]
    return ["".join(map(shown, getattr(x, "values", [x]))) for x in strings if x not in aside]


def shown(part: ast.AST) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "{}"


def shell(project: Repository, command: str, status: int | None = 0) -> str:
    """Type a command as it was recommended; `make` uses the environment that runs the tests."""
    if not (project.folder / ".venv").exists():
        (project.folder / ".venv").symlink_to(sys.prefix)
    command = command.replace("make", "make --old-file=.venv/bin/installed", 1)
    return project.run("bash", "-c", command, status=status)


def clone(project: Repository, folder: Path, *options: str) -> Repository:
    project.run("git", "clone", "--quiet", *options, project.folder.as_uri(), str(folder))
    return Repository(folder)


@remedy("dvc repro")
def result_edited_by_hand(project, tmp_path):
    (project.folder / "metrics/test.json").write_text("{}")
    assert "`dvc repro` makes it again" in project.python("tools.fsck")
    shell(project, "dvc repro")
    assert project.run("git", "status", "--porcelain") == ""


@remedy("dvc repro prepare")
def prepared_data_gone(project, tmp_path):
    shutil.rmtree(project.folder / "data/prepared")
    output = project.python(PREDICT, "--test", "0", status=1)
    assert "`dvc repro prepare` makes it" in output
    shell(project, "dvc repro prepare")
    assert (project.folder / "data/prepared/test_images.npy").exists()


@remedy("dvc checkout", "make")
def model_gone(project, tmp_path):
    model = project.folder / "models/model.keras"
    load = "import pathlib, fashion.model.networks as n; n.load_model(pathlib.Path(sys.argv[1]))"
    load = f"import sys\nfrom fashion.core.errors import *\nwith exit_on_user_error('x'): {load}"
    model.unlink()
    output = project.run(sys.executable, "-c", load, "models/model.keras", status=1)
    assert "no such model" in output
    for command in ("dvc checkout", "make"):
        model.unlink(missing_ok=True)
        assert "`make` trains it" in project.python(PREDICT, "--test", "0", status=1)
        shell(project, command)
        assert model.exists()


@remedy("dvc pull")
def file_corrupted_in_the_cache(project, tmp_path):
    project.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    project.dvc("push")
    cached = project.cached("models/model.keras")
    cached.chmod(0o644)
    cached.write_text("corrupted")
    assert "`dvc pull` fetches it" in project.python("tools.fsck")
    shell(project, "dvc pull")
    assert cached.exists() and project.python("tools.fsck") == ""


@remedy("git checkout {}")
def params_wrong_or_gone(project, tmp_path):
    params = project.folder / "params.yaml"
    for content in ("train: {}\n", None):
        params.write_text(content) if content else params.unlink()
        read = "from fashion.core.params import read_params; read_params()"
        output = project.run(sys.executable, "-c", read, status=1, traceback=True)
        assert "`git checkout params.yaml`" in output
        project.python(EXPERIMENTS, status=1)
        shell(project, "git checkout params.yaml")
        assert "short: " in project.python(EXPERIMENTS)


@remedy("git checkout {} metrics plots", "make verify")
def bytes_of_this_machine_differ(project, tmp_path):
    project.rewrite("metrics/test.json", project.read("metrics/test.json").decode() + "\n")
    project.commit("As if made otherwise")
    project.dvc("repro", "--force")
    output = project.python("tools.rebuild")
    assert "`git checkout dvc.lock metrics plots` brings" in output and "`make verify`" in output
    assert "different" in shell(project, "make verify", status=None)
    shell(project, "git checkout dvc.lock metrics plots")
    assert project.run("git", "status", "--porcelain") == ""


@remedy("git checkout {} && dvc repro --pull")
def model_of_a_revision_gone(project, tmp_path):
    """That of the commit is in a remote, that of the experiment is made again."""
    project.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    project.commit("A remote")
    project.dvc("push")
    project.python(EXPERIMENTS)
    for revision in ("main", "short"):
        project.dvc("exp", "apply", "short") if revision == "short" else None
        cached = project.cached("models/model.keras")
        project.run("git", "checkout", "--quiet", "--force", "main")
        project.dvc("checkout", "--quiet")
        cached.unlink()
        output = project.python(PREDICT, "--test", "0", "--rev", revision, status=1)
        shell(project, re.search(r"`(git checkout \w+ && dvc repro --pull)` brings", output)[1])
        assert cached.exists()
        project.run("git", "checkout", "--quiet", "main")


@remedy("make experiments")
def no_experiments_of_this_commit(project, tmp_path):
    other = clone(project, tmp_path / "clone")
    assert "`make experiments` runs them" in other.python("tools.report", status=1)
    shell(other, "make experiments")
    assert "`make experiments`" not in other.python("tools.report")


@remedy("git fetch --unshallow")
def shallow_clone(project, tmp_path):
    shallow = clone(project, tmp_path / "clone", "--depth=1")
    for module, status in ((EXPERIMENTS, 1), (CHECK, 2)):
        assert "`git fetch --unshallow`" in shallow.python(module, status=status)
    shell(shallow, "git fetch --unshallow")
    assert "short" in shallow.python(EXPERIMENTS)
    assert "--unshallow" not in shallow.python(CHECK, status=None)


@remedy('make experiments ARGS="--replace"', "git stash")
def changes_that_are_not_committed(project, tmp_path):
    listing = ("git", "for-each-ref", "refs/exps")
    before = project.run(*listing)
    project.set("train.learning_rate=0.01")
    assert "train.learning_rate: 0.001 -> 0.01" in project.python(EXPERIMENTS, status=1)
    assert project.run(*listing) == before
    shell(project, "git stash")
    assert "short: up to date" in project.python(EXPERIMENTS)
    project.run("git", "stash", "pop")
    shell(project, 'make experiments ARGS="--replace"')
    assert project.run(*listing) != before


@remedy("git add")
def code_that_git_does_not_track(project, tmp_path):
    project.run("git", "rm", "--quiet", "--cached", "stages/plot.py")
    project.run("git", "commit", "--quiet", "--message", "Forgotten")
    assert "`git add` it, or remove it" in project.python(EXPERIMENTS, status=1)
    shell(project, "git add stages/plot.py")
    assert "short" in project.python(EXPERIMENTS, "--replace")


@remedy("make noise")
def noise_gone(project, tmp_path):
    (project.folder / "metrics/noise.json").unlink()
    project.python("tools.report.readme")
    assert "not measured yet (`make noise`)" in project.read("models/README.md").decode()
    shell(project, "make noise ARGS='--seeds 5'")
    project.python("tools.report.readme")
    assert "over 5 seeds" in project.read("models/README.md").decode()


@remedy("git fetch {} && git remote set-head {} --auto")
def default_branch_that_is_not_known(project, tmp_path):
    project.run("git", "branch", "--move", "trunk")
    other = clone(project, tmp_path / "clone")
    other.run("git", "remote", "set-head", "origin", "--delete")
    output = other.python(CHECK, status=2)
    shell(other, re.search("`(git fetch .*?)`", output.replace("\n", " "))[1])
    assert "set-head" not in other.python(CHECK, status=None)


@remedy("git fetch origin")
def target_of_a_pull_request_that_is_not_here(project, tmp_path):
    other = clone(project, tmp_path / "clone")
    other.run("git", "update-ref", "-d", "refs/remotes/origin/main")
    output = other.python(CHECK, status=2, GITHUB_BASE_REF="main")
    assert "`git fetch origin` brings it" in output
    shell(other, "git fetch origin")
    assert "brings it" not in other.python(CHECK, status=None, GITHUB_BASE_REF="main")


@remedy("git init && git add -A && git commit -m first", "git clone")
def no_git_repository(project, tmp_path):
    shutil.rmtree(project.folder / ".git")
    output = project.python(EXPERIMENTS, status=1)
    assert "this folder is no Git repository with a commit" in output
    shell(project, "git init && git add -A && git commit -m first")
    assert "short" in project.python(EXPERIMENTS)
    assert "short" in clone(project, tmp_path / "clone").python(EXPERIMENTS)


@remedy("git log", "dvc exp list --all-commits")
def revision_that_is_not_there(project, tmp_path):
    output = project.python(CHECK, "--baseline", "shrot", status=2)
    assert "`git log` and `dvc exp list --all-commits`" in output
    assert "commit " in shell(project, "git log")
    assert "short" in shell(project, "dvc exp list --all-commits")


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
    "scenario", dict.fromkeys(SCENARIOS.values()), ids=lambda scenario: scenario.__name__
)
def test_what_is_recommended_helps(scenario, committed, tmp_path):
    scenario(committed.copy(tmp_path / "project"), tmp_path)


def test_all_recommended_commands_are_here():
    assert recommended() == SCENARIOS.keys() | ELSEWHERE


def test_a_command_in_a_message_is_found():
    source = 'def f():\n    """Not `this`."""\n    raise E(f"{x}. `git checkout {y.z}` helps")\n'
    assert [text for text in texts(source) if "`" in text] == ["{}. `git checkout {}` helps"]
