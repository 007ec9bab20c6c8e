"""Run commands with wrong arguments, and in odd folders, caches, settings and worktrees."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import pytest
from zc.lockfile import LockFile

from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tests.support.commands import begin, processes_in
from tests.support.repository import PROJECT, Repository
from tools.arguments import parser_of
from tools.dvc import command
from tools.experiments.local import LocalJob
from tools.experiments.runner import stop
from tools.git import file_at, git

AT_LEAST = "is not a whole number of at least"


@pytest.mark.parametrize(
    ("status", "words", "message"),
    [
        (2, ["tools.rebuild", "run-1"], "unrecognized arguments: run-1"),
        (2, ["tools.report.readme", "run-1"], "unrecognized arguments: run-1"),
        (2, ["tools.demo", "run-1"], "unrecognized arguments: run-1"),
        (2, ["tools.fsck", "--everything"], "unrecognized arguments: --everything"),
        (2, ["tools.gate.check", "--seed", "5"], "unrecognized arguments: --seed 5"),
        (2, ["tools.gate.check", "--candidate", "/nowhere"], "there is no folder /nowhere"),
        (2, ["tools.experiments.__main__", "--seeds", "0"], f"0 {AT_LEAST} 1"),
        (2, ["tools.experiments.__main__", "--jobs", "two"], f"two {AT_LEAST} 1"),
        (2, ["tools.gate.noise", "--seeds", "4"], f"4 {AT_LEAST} 5"),
        (2, ["tools.predict"], "name pictures"),
        (2, ["tools.predict", "--test", "0", "--plot", "a.jpg"], "a.jpg does not end with .png"),
        (1, ["tools.predict", "/nowhere.png"], "/nowhere.png: No such file or directory"),
        (1, ["tools.predict", "--test", "-1"], "there are 400 test images, counted from 0"),
        (1, ["tools.predict", "--test", "400"], "there are 400 test images, counted from 0"),
        (1, ["tools.predict", "--test", "0", "--rev", "nowhere"], "there is no revision nowhere"),
        (1, ["tools.dataset", "/nowhere"], "/nowhere: no such folder"),
        (1, ["tools.report.__main__", "nowhere"], "there is no revision nowhere"),
        (1, ["tools.gate.verify", "nowhere"], "there is no revision nowhere"),
        (1, ["tools.experiments.__main__", "--only", "run-9"], "no experiment run-9"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_ends_with_one_line_and_a_status(committed, call, status, words, message):
    lines = call(committed, import_module(words[0]), *words[1:], status=status).splitlines()
    assert message in lines[-1]
    assert len(lines) == 1 or (status == 2 and lines[0].startswith("usage: "))
    assert committed.run("git", "status", "--porcelain") == ""


def test_a_command_needs_no_docstring():
    """PYTHONOPTIMIZE=2 removes it."""
    assert parser_of("fsck", None).format_help().startswith("usage: fsck ")


def test_messages_of_git_and_a_missing_git_are_shown(committed, tmp_path):
    output = committed.python("tools.fsck", status=1, GIT_TEST_ASSUME_DIFFERENT_OWNER="true")
    assert "detected dubious ownership" in output and "safe.directory" in output
    (tmp_path / "python").symlink_to(sys.executable)
    run = (sys.executable, "-BEs", "-m", "tools.fsck")
    words = ("/usr/bin/env", f"PATH={tmp_path}", *run)
    assert committed.run(*words, status=1) == "fsck: git is not installed\n"


def test_a_file_that_git_has_lost_is_not_called_missing(toy, monkeypatch):
    monkeypatch.chdir(toy.folder)
    digest = git("rev-parse", "HEAD:params.yaml").strip()
    Path(".git/objects", digest[:2], digest[2:]).unlink()
    with pytest.raises(UserError, match=r"`git show HEAD:params\.yaml`: fatal"):
        file_at("HEAD", "params.yaml")


def test_a_project_inside_of_a_larger_repository_is_refused(committed, tmp_path):
    project = committed.clone(tmp_path / "larger/project")
    (project.folder / ".git").rename(tmp_path / "larger/.git")
    assert "is project/ in a larger Git repository" in project.python("tools.fsck", status=1)


@pytest.mark.parametrize("name", ["dataset.yaml", "dvc.yaml", "stages/plot.py"])
def test_a_deleted_file_that_stages_need_is_named(compared, call, name):
    (compared.folder / name).unlink()
    output = call(compared, import_module("tools.rebuild"), status=1)
    assert output == f"rebuild: {name}: no such file. `git checkout {name}` restores it\n"


def test_files_of_file_managers_and_editors_are_ignored(compared):
    for name in (".DS_Store", "Thumbs.db", "notes.txt~", ".notes.swp"):
        (compared.folder / "data/prepared" / name).touch()
    assert compared.dvc("status").strip() == "Data and pipelines are up to date."


def test_a_clone_with_converted_line_ends_has_the_same_bytes(committed, tmp_path):
    """Git for Windows sets core.autocrlf."""
    clone = committed.clone(tmp_path / "clone", "--config=core.autocrlf=true")
    for path in ("params.yaml", "metrics/test.json", "plots/loss.png"):
        assert clone.read(path) == committed.read(path)


def test_make_and_the_commands_of_dvc_that_it_runs_wait_for_another_dvc_process(compared):
    """Such as one that an editor's extension starts."""
    lock = LockFile(compared.folder / ".dvc/tmp/lock")
    rebuild, repro = begin(compared, "tools.rebuild"), begin(compared, *command("repro")[2:])
    with rebuild as one, repro as other, ThreadPoolExecutor() as pool:
        pool.submit(lambda: (time.sleep(6), lock.close()))  # DVC alone gives up after 3 seconds
        assert one.wait() == other.wait() == 0, one.output + other.output


def test_experiments_need_no_python_on_path_and_write_only_into_the_project(compared, tmp_path):
    compared.set("experiments={another: {train.epochs: 2, seed: 5}}")
    compared.commit("Another experiment")
    site = tmp_path / "site"
    variables = {"DVC_SITE_CACHE_DIR": str(site), "PATH": "/usr/bin:/bin"}
    compared.python("dvc", "status", **variables)
    before = sorted(site.glob("*/*"))
    output = compared.python("tools.experiments", **variables)
    assert "another: completed" in output and sorted(site.glob("*/*")) == before


def test_a_partial_clone_is_verified_and_judged(committed, tmp_path):
    committed.run("git", "config", "uploadpack.allowFilter", "true")
    partial = committed.clone(tmp_path / "clone", "--filter=blob:none")
    assert "equal to the byte" in partial.python("tools.gate.verify")
    words = ("--baseline", "HEAD~1", "--seeds", "1")
    report = partial.python("tools.gate.check", *words, status=None)  # of other experiments
    assert "1 run of the candidate" in report


@pytest.mark.slow
def test_make_runs_in_a_linked_worktree(compared):
    """It rebuilds equal bytes there."""
    worktree = Repository(compared.folder.with_name("worktree"))
    compared.commit("The comparison")
    compared.run("git", "worktree", "add", "--quiet", str(worktree.folder))
    output = worktree.python("tools.rebuild")
    assert "Running stage 'train'" in output and "longer: completed after " in output
    for one in (worktree, compared):
        assert one.run("git", "status", "--porcelain") == ""
    with (worktree.folder / "stages/plot.py").open("a") as file:
        file.write("# Another style\n")
    assert "Running stage 'plot'" in worktree.python("tools.rebuild")


def test_experiments_of_a_new_or_amended_commit_come_from_the_run_cache(compared):
    """DVC's run cache has no stages with `outs` that Git keeps, or that persist."""
    compared.commit("The comparison")
    compared.run("git", "commit", "--quiet", "--amend", "--message", "Another message")
    output = compared.python("tools.experiments")
    assert "longer: completed" in output and "longer: train" not in output
    stages = read_yaml(PROJECT / "dvc.yaml")["stages"]
    outs = [out for name in stages if name != "prepare" for out in stages[name].get("outs", [])]
    options = [
        option for out in outs if isinstance(out, dict) for option in next(iter(out.values()))
    ]
    assert not {"cache", "persist"} & {*options}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--ignore-signal=INT,TERM", "--default-signal=HUP"), "[True, True, True]"),
        (("--default-signal=INT,TERM", "--ignore-signal=HUP"), "[True, True, False]"),  # as nohup
    ],
)
def test_kill_and_a_closed_terminal_are_like_ctrl_c_except_under_nohup(toy, options, expected):
    program = (
        "from signal import *\n"
        "from tools.process import command_line\n"
        "with command_line('test'):\n"
        "    print([getsignal(one) is default_int_handler for one in (SIGINT, SIGTERM, SIGHUP)])"
    )
    assert toy.run("env", *options, sys.executable, "-c", program).strip() == expected


def test_a_second_interrupt_ends_experiments_at_once(tmp_path, monkeypatch):
    deaf = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", deaf], cwd=tmp_path, start_new_session=True)
    job = LocalJob(process, tmp_path, "", ExitStack())

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(time, "sleep", interrupted)
        stop([job])
    assert process.returncode in (-signal.SIGKILL, -signal.SIGINT)
    assert processes_in(tmp_path) == []


@pytest.mark.slow
def test_folders_caches_and_names_may_have_other_letters_than_ascii(compared, tmp_path):
    folder, cache = tmp_path / "Mein Ördner ü/Prüf Projekt", "../../../Größe"
    project = compared.copy(folder)
    (folder / ".dvc/cache").rename(folder / ".dvc" / cache)
    settings = f"[cache]\n    dir = {cache}\n"  # by hand, as `dvc cache dir` refuses such a name
    (folder / ".dvc/config.local").write_text(settings)
    project.run("git", "config", "user.name", "Jörg Müller")
    project.set("experiments={short: {train.epochs: 1}, another: {train.epochs: 2, seed: 3}}")
    project.commit("Another experiment")
    names = {f"GIT_{role}_NAME": "Jörg Müller" for role in ("AUTHOR", "COMMITTER")}
    assert "another: completed" in project.python("tools.experiments", **names)
    for module in ("tools.report", "tools.fsck"):
        project.python(module)
    words = ("tools.gate.verify", "Größe")
    output = project.python(*words, status=1, PYTHONIOENCODING="ascii")
    assert output.isascii() and "there is no revision Gr??e" in output


def test_an_experiment_without_its_model_is_run_again(compared):
    compared.dvc("gc", "--workspace", "--force")
    output = compared.python("tools.experiments", "--only", "short")
    assert "short: models/model.keras is not in DVC's cache any more" in output
    assert "short: completed" in output
