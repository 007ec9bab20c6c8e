import signal
import subprocess
import sys
from contextlib import ExitStack, chdir
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from fashion.core.environment import THREADS
from fashion.core.errors import UserError
from tests.support.repository import IDENTITY
from tools.dvc import cache_folder, share_cache
from tools.experiments import runner
from tools.experiments.backend import LOGS, Backend, ExperimentSpec
from tools.experiments.local import LocalBackend, LocalJob
from tools.experiments.runner import run_parallel
from tools.git import git, identity, temporary_clone

EPOCH = "epoch 1/9 loss 1.0 accuracy 0.5 val_loss 1.0 val_accuracy 0.5"


class ScriptBackend(Backend):
    """A backend in which an experiment is a Python script that the test chooses."""

    capacity = 2

    def __init__(self, script: str):
        self.script, self.jobs, self.closed = script, [], []

    def start(self, spec: ExperimentSpec) -> "ScriptJob":
        with spec.log.open("w") as file:
            words = [sys.executable, "-c", self.script]
            process = subprocess.Popen(words, stdout=file, start_new_session=True)
        self.jobs.append(ScriptJob(process, Path(), spec.name, ExitStack()))
        self.jobs[-1].closed = self.closed
        return self.jobs[-1]


class ScriptJob(LocalJob):
    """A job that notes whether its experiment was kept."""

    def close(self, keep: bool) -> None:
        self.closed.append((self.reference, keep))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def specs(names: str) -> list[ExperimentSpec]:
    return [ExperimentSpec(name) for name in names]


def test_the_epochs_of_a_job_that_starts_again_replace_the_earlier_ones():
    """A job starts again if its node of a cluster dies; a sweep must not see an epoch twice."""
    LOGS.mkdir(parents=True)
    (spec,) = specs("a")
    lines = [EPOCH.replace("epoch 1", f"epoch {epoch}") for epoch in (1, 2, 3, 1, 2)]
    spec.log.write_text("\n".join([*lines, ""]))
    run = runner.ExperimentRun(spec, SimpleNamespace(poll=lambda: None))
    run.poll()
    assert [row["epoch"] for row in run.history] == [1, 2]


def test_a_failure_on_a_full_disk_says_so(monkeypatch):
    LOGS.mkdir(parents=True)
    run = runner.ExperimentRun(*specs("a"), SimpleNamespace(), lines=[*map(str, range(20))])
    message = runner.describe_failure(run)
    assert "| 8\n  | 9" in message and "| 19\n" in message and "The disk is full" not in message
    monkeypatch.setattr(runner, "MIN_FREE_BYTES", 2**99)
    assert "The disk is full: make room, then run it again." in runner.describe_failure(run)


def test_the_next_experiment_is_asked_for_when_there_is_room():
    backend, asked, active = ScriptBackend("pass"), [], []

    def upcoming():
        for spec in specs("abcdef"):
            asked.append(spec.name)
            active.append(len(asked) - len(backend.closed))
            yield spec

    run_parallel(upcoming(), backend, jobs=1)
    assert sorted(backend.closed) == [(name, True) for name in "abcdef"]
    assert set(active) == {1} and asked == list("abcdef")


def test_a_pruned_run_ends_at_once_and_is_not_kept():
    backend = ScriptBackend(
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # which this test's shell may ignore
        f"print({EPOCH!r}, flush=True)\n"
        "time.sleep(1000)"
    )
    run_parallel(specs("a"), backend, should_prune=lambda run: True)
    assert backend.jobs[0].poll() == -signal.SIGINT and backend.closed == [("a", False)]


def test_a_run_that_ignores_an_interrupt_is_killed_with_its_processes(monkeypatch):
    monkeypatch.setattr(runner, "STOP_TIMEOUT", 0.2)
    backend = ScriptBackend(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # and so does its child
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"print({EPOCH!r}, flush=True)\n"
        "time.sleep(1000)"
    )
    started = []

    def interrupt(run) -> bool:
        started.extend(psutil.Process(run.job.process.pid).children())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_parallel(specs("a"), backend, should_prune=interrupt)
    assert backend.jobs[0].poll() == -signal.SIGKILL and backend.closed == [("a", False)]
    assert len(started) == 1 and psutil.wait_procs(started, timeout=60)[1] == []


def test_a_clone_that_cannot_be_set_up_is_removed(toy, monkeypatch):
    monkeypatch.chdir(toy.folder)
    for name in IDENTITY:
        monkeypatch.delenv(name, raising=False)
    git("config", "user.name", "Ada")  # which a clone does not know
    git("config", "user.email", "ada@example.com")
    backend = LocalBackend()
    assert backend.env["GIT_COMMITTER_NAME"] == "Ada" and backend.env[THREADS] == "1"
    backend.commit = "no commit"
    with pytest.raises(UserError, match="reset"):
        backend.start(ExperimentSpec("a"))
    assert list(Path(".dvc/tmp").glob("experiments-*")) == []


def test_a_clone_that_was_left_is_removed_once_no_process_works_in_it(toy, monkeypatch):
    monkeypatch.chdir(toy.folder)
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = Path(f".dvc/tmp/test-{ended.pid}-x")
    left.mkdir()
    with subprocess.Popen(["sleep", "600"], cwd=left) as process:
        with temporary_clone("test", "HEAD"):
            assert left.exists()
        process.kill()
    with temporary_clone("test", "HEAD"):
        assert not left.exists()


def test_clones_share_the_cache_and_have_the_local_settings_of_dvc(toy, tmp_path, monkeypatch):
    toy.dvc("config", "--local", "cache.type", "symlink")
    (tmp_path / "clone/.dvc").mkdir(parents=True)
    monkeypatch.chdir(toy.folder)
    share_cache(tmp_path / "clone")
    (tmp_path / "clone/.dvc/config").write_text("[core")
    with chdir(tmp_path / "clone"), pytest.raises(UserError, match="DVC's settings can't be read"):
        cache_folder()
    settings = (tmp_path / "clone/.dvc/config.local").read_text()
    assert "type = symlink" in settings and f"dir = {toy.folder / '.dvc/cache'}" in settings


def test_without_a_name_git_and_dvc_choose_one(tmp_path, monkeypatch):
    """As in a container, whose user has none."""
    for name in IDENTITY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (["init", "--quiet"], ["config", "user.useConfigOnly", "true"]):
        git(*words)
    assert identity() == {}
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.com")
    assert identity() == {name: "Ada" if "NAME" in name else "ada@example.com" for name in IDENTITY}
