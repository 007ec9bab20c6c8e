"""Every command that a message recommends, run in the situation in which it is recommended."""

import ast
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.repository import PROJECT, Repository
from tools.experiments.ray import check_remotes

SCENARIOS: dict[str, Callable[[Repository, Path], None]] = {}
# not a remedy but the command that failed, or shown where Ray is (tests/tools/test_ray.py)
ELSEWHERE = {
    "dvc status",
    "dvc {' '.join(arguments)}",
    "git {' '.join(arguments)}",
    "pip install -r requirements-ray.txt",
    "ray start --head",
}


def remedy(*commands: str):
    def register(scenario):
        SCENARIOS.update(dict.fromkeys(commands, scenario))
        return scenario

    return register


def recommended() -> set[str]:
    """The commands in backticks in all texts of the code but docstrings; {...} is what varies."""
    commands = set()
    for floor in ("fashion", "stages", "tools"):
        for path in (PROJECT / floor).rglob("*.py"):
            for text in texts(ast.parse(path.read_text())):
                commands |= set(re.findall(r"`([^`]+)`", text))
    return commands


def texts(tree: ast.AST) -> list[str]:
    nodes = list(ast.walk(tree))
    aside = {
        node.body[0].value
        for node in nodes
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    aside |= {value for node in nodes if isinstance(node, ast.JoinedStr) for value in node.values}
    found = []
    for node in nodes:
        if node not in aside and isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (
                part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
                for part in node.values
            )
            found.append("".join(parts))
    return found


def shell(project: Repository, command: str, status: int | None = 0) -> str:
    """Type a command as it was recommended; `make` uses the environment that runs the tests."""
    if not (project.folder / ".venv").exists():
        (project.folder / ".venv").symlink_to(sys.prefix)
    command = command.replace("make", "make --old-file=.venv/bin/installed", 1)
    return project.run("bash", "-c", command, status=status)


@remedy("dvc repro")
def result_edited_by_hand(project, tmp_path):
    (project.folder / "metrics/test.json").write_text("{}")
    assert "`dvc repro` makes it again" in project.python("tools.fsck")
    shell(project, "dvc repro")
    assert project.run("git", "status", "--porcelain") == ""


@remedy("dvc repro prepare")
def prepared_data_gone(project, tmp_path):
    shutil.rmtree(project.folder / "data/prepared")
    output = project.python("tools.predict", "--test", "0", status=1)
    assert "`dvc repro prepare` makes it" in output
    shell(project, "dvc repro prepare")
    assert "`dvc repro prepare`" not in project.python("tools.predict", "--test", "0", status=1)


@remedy("dvc checkout", "make")
def model_gone(project, tmp_path):
    from fashion.core.errors import UserError
    from fashion.model.networks import load_model

    model = project.folder / "models/model.keras"
    for command in ("dvc checkout", "make"):
        model.unlink()
        with pytest.raises(UserError, match="`dvc checkout` restores"):
            load_model(model)
        assert "`make` trains it" in project.python("tools.predict", "--test", "0", status=1)
        shell(project, command)
        assert model.exists()


@remedy("dvc pull")
def file_damaged_in_the_cache(project, tmp_path):
    project.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    project.dvc("push")
    md5 = re.search(r"path: models/model.keras\s+hash: md5\s+md5: (\w+)", lock(project))[1]
    cached = project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    cached.chmod(0o644)
    cached.write_text("damaged")
    assert "`dvc pull` fetches it" in project.python("tools.fsck")
    shell(project, "dvc pull")
    assert cached.read_text() != "damaged" and project.python("tools.fsck") == ""


def lock(project) -> str:
    return project.read("dvc.lock").decode()


@remedy("git checkout {path}")
def params_wrong_or_gone(project, tmp_path):
    experiments = ["tools.experiments", "--only", "short"]
    for content in ("train: {}\n", None):
        params = project.folder / "params.yaml"
        params.write_text(content) if content else params.unlink()
        output = project.run(sys.executable, "-c", READ_PARAMS, status=1) if content else ""
        output = output or project.python(*experiments, status=1)
        assert "`git checkout params.yaml`" in output
        shell(project, "git checkout params.yaml")
        assert "short: " in project.python(*experiments)


READ_PARAMS = "from fashion.core.params import read_params; read_params()"


@remedy("git checkout {DVC_LOCK} metrics plots", "make verify")
def bytes_of_this_machine_differ(project, tmp_path):
    project.rewrite("metrics/test.json", project.read("metrics/test.json").decode() + "\n")
    project.commit("As if made otherwise")
    project.dvc("repro", "--force")
    program = "from tools.rebuild import machine_note; print(machine_note())"
    output = project.run(sys.executable, "-c", program)
    assert "`git checkout dvc.lock metrics plots` brings" in output and "`make verify`" in output
    assert "different" in shell(project, "make verify", status=None)
    shell(project, "git checkout dvc.lock metrics plots")
    assert project.run("git", "status", "--porcelain") == ""


@remedy("git checkout {commit[:7]} && dvc repro", "make experiments")
def model_of_an_experiment_gone(project, tmp_path):
    project.python("tools.experiments")
    predict = ["tools.predict", "--test", "0", "--rev", "short"]
    for pattern in ("make experiments", r"git checkout \w+ && dvc repro"):
        shutil.rmtree(project.folder / ".dvc/cache/files")
        command = re.search(f"`({pattern})` makes", project.python(*predict, status=1))[1]
        shell(project, command)
        assert model_is_cached(project, "short")


@remedy("dvc fetch --all-commits")
def model_of_a_commit_gone(project, tmp_path):
    project.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    project.dvc("push")
    shutil.rmtree(project.folder / ".dvc/cache/files")
    predict = ["tools.predict", "--test", "0", "--rev", "main"]
    assert "`dvc fetch --all-commits` brings it" in project.python(*predict, status=1)
    shell(project, "dvc fetch --all-commits")
    assert model_is_cached(project, "main")


def model_is_cached(project, revision: str) -> bool:
    commit = experiment(project) if revision == "short" else revision
    lock = project.run("git", "show", f"{commit}:dvc.lock")
    md5 = re.search(r"path: models/model.keras\s+hash: md5\s+md5: (\w+)", lock)[1]
    return (project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).exists()


def experiment(project) -> str:
    return project.run(
        "git", "for-each-ref", "--sort=-creatordate", "--format=%(objectname)", "refs/exps"
    ).split()[0]


@remedy("git fetch --unshallow")
def shallow_clone(project, tmp_path):
    clone = Repository(tmp_path / "clone")
    project.run("git", "clone", "-q", "--depth=1", project.folder.as_uri(), str(clone.folder))
    for module, status in (("tools.experiments", 1), ("tools.gate.check", 2)):
        assert "`git fetch --unshallow`" in clone.python(module, status=status)
    shell(clone, "git fetch --unshallow")
    assert "short" in clone.python("tools.experiments")
    assert "--unshallow" not in clone.python("tools.gate.check", status=None)


@remedy('make experiments ARGS="--replace"', "git stash")
def changes_that_are_not_committed(project, tmp_path):
    project.python("tools.experiments")
    before = experiment(project)
    project.set("train.learning_rate=0.01")
    assert "train.learning_rate: 0.001 -> 0.01" in project.python("tools.experiments", status=1)
    assert experiment(project) == before
    shell(project, "git stash")
    assert "short: up to date" in project.python("tools.experiments")
    project.run("git", "stash", "pop")
    shell(project, 'make experiments ARGS="--replace"')
    assert experiment(project) != before


@remedy("git add")
def code_that_git_does_not_track(project, tmp_path):
    (project.folder / "fashion/new.py").write_text("")
    assert "`git add` it, or remove it" in project.python("tools.experiments", status=1)
    shell(project, "git add fashion/new.py")
    assert "short" in project.python("tools.experiments", "--replace")


@remedy("make noise", "{command}")
def noise_gone(project, tmp_path):
    (project.folder / "metrics/noise.json").unlink()
    project.commit("No noise")
    assert "`make noise` measures it" in project.python("tools.report.readme", status=1)
    shell(project, "make noise ARGS='--seeds 5'")
    assert "make noise" not in project.python("tools.report.readme", status=None)


@remedy("git fetch {remote} && git remote set-head {remote} --auto")
def default_branch_that_is_not_known(project, tmp_path):
    project.run("git", "branch", "--move", "trunk")
    clone = Repository(tmp_path / "clone")
    project.run("git", "clone", "-q", str(project.folder), str(clone.folder))
    clone.run("git", "remote", "set-head", "origin", "--delete")
    output = clone.python("tools.gate.check", status=2)
    command = re.search("`(git fetch .*?)`", output.replace("\n", " "))[1]
    shell(clone, command)
    assert "set-head" not in clone.python("tools.gate.check", status=None)


@remedy("git fetch origin")
def target_of_a_pull_request_that_is_not_here(project, tmp_path):
    clone = Repository(tmp_path / "clone")
    project.run("git", "clone", "-q", str(project.folder), str(clone.folder))
    clone.run("git", "update-ref", "-d", "refs/remotes/origin/main")
    output = clone.python("tools.gate.check", status=2, GITHUB_BASE_REF="main")
    assert "`git fetch origin` brings it" in output
    shell(clone, "git fetch origin")
    output = clone.python("tools.gate.check", status=None, GITHUB_BASE_REF="main")
    assert "brings it" not in output


@remedy("git init && git add -A && git commit -m first", "git clone")
def no_git_repository(project, tmp_path):
    shutil.rmtree(project.folder / ".git")
    output = project.python("tools.experiments", status=1)
    assert "this folder is no Git repository with a commit" in output
    shell(project, "git init && git add -A && git commit -m first")
    assert "short" in project.python("tools.experiments")
    clone = Repository(tmp_path / "clone")
    shell(project, f"git clone . {clone.folder}")
    assert "short" in clone.python("tools.experiments")


@remedy("git log", "dvc exp list --all-commits")
def revision_that_is_not_there(project, tmp_path):
    output = project.python("tools.gate.check", "--baseline", "shrot", status=2)
    assert "`git log` and `dvc exp list --all-commits`" in output
    assert "commit " in shell(project, "git log")
    assert "short" in shell(project, "dvc exp list --all-commits")


@remedy("python -m tools.dataset FOLDER")
def data_out_of_date(project, tmp_path):
    assert "FOLDER" in project.python("tools.dataset", status=2)  # tests/tools/test_dataset.py


@remedy("make demo")
def data_out_of_reach(project, tmp_path):
    for name in ("stages/fetch.py", "stages/pipeline.py", "dvc.yaml"):
        shutil.copy(PROJECT / name, project.folder / name)
    project.set("sources=[/nowhere]")
    # tests/tools/test_demo.py runs it
    assert "`make demo` shows the pipeline" in project.python("stages.fetch", status=1)


@remedy("git remote add {REMOTE} URL", "git push", "dvc remote add --default NAME ADDRESS")
def nothing_that_nodes_could_clone(project, tmp_path):
    def refusal() -> str:
        return project.run(sys.executable, "-c", CHECK_REMOTES, status=None)

    assert "`git remote add origin URL`" in refusal()
    project.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    shell(project, f"git remote add origin {tmp_path / 'origin.git'}")
    assert "`git push` it" in refusal()
    shell(project, "git push -u origin HEAD")
    assert "`dvc remote add --default NAME ADDRESS`, then commit and push" in refusal()
    shell(project, f"dvc remote add --default store {tmp_path / 'store'}")
    shell(project, "git commit -am store && git push")
    assert refusal() == ""


CHECK_REMOTES = f"from {check_remotes.__module__} import check_remotes; check_remotes()"


@pytest.mark.parametrize(
    "scenario", dict.fromkeys(SCENARIOS.values()), ids=lambda scenario: scenario.__name__
)
def test_what_is_recommended_helps(scenario, committed, tmp_path):
    scenario(committed.copy(tmp_path / "project"), tmp_path)


def test_all_recommended_commands_are_here():
    assert recommended() == SCENARIOS.keys() | ELSEWHERE


def test_a_command_in_a_message_is_found():
    source = 'def f():\n    """Not `this`."""\n    raise E(f"{x}. `git checkout {y.z}` helps")\n'
    assert [text for text in texts(ast.parse(source)) if "`" in text] == [
        "{x}. `git checkout {y.z}` helps"
    ]
