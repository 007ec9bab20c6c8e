import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from fashion.core.errors import UserError
from tests.support.commands import TIMEOUT
from tools.dvc import list_experiments
from tools.experiments import runner
from tools.experiments.backend import LOGS, Backend, ExperimentSpec
from tools.experiments.local import LocalBackend, LocalJob
from tools.experiments.runner import run_parallel
from tools.git import head, yaml_at
from tools.process import user_env

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
    """Work in a new folder, and handle signals afterwards as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def specs(names: str) -> list[ExperimentSpec]:
    return [ExperimentSpec(name) for name in names]


def test_the_epochs_of_a_job_that_starts_again_replace_those_before():
    """As one does whose node of a cluster has died; else a sweep would see them twice."""
    LOGS.mkdir(parents=True)
    (spec,) = specs("a")
    lines = [EPOCH.replace("epoch 1", f"epoch {epoch}") for epoch in (1, 2, 3, 1, 2)]
    spec.log.write_text("\n".join([*lines, ""]))
    run = runner.ExperimentRun(spec, SimpleNamespace(poll=lambda: None))
    run.poll()
    assert [row["epoch"] for row in run.history] == [1, 2]


def test_so_many_run_at_a_time_and_the_next_is_asked_for_when_there_is_room():
    backend, asked, most = ScriptBackend("pass"), [], []

    def upcoming():
        for spec in specs("abcdef"):
            asked.append(spec.name)
            yield spec

    def count(run) -> bool:
        most.append(len(asked) - len(backend.closed))
        return False

    run_parallel(upcoming(), backend, 3, count)
    assert sorted(backend.closed) == [(name, True) for name in "abcdef"]
    assert max(most) <= 3 and asked == list("abcdef")


def test_a_pruned_run_is_stopped_and_reported_and_not_kept(capsys):
    backend = ScriptBackend(f"import time; print({EPOCH!r}, flush=True); time.sleep(1000)")
    run_parallel(specs("ab"), backend, should_prune=lambda run: run.history != [])
    assert all(job.poll() is not None for job in backend.jobs)
    assert sorted(backend.closed) == [("a", False), ("b", False)]
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "a: epoch 1/9, validation accuracy 0.5000",
        "a: pruned",
        "b: epoch 1/9, validation accuracy 0.5000",
        "b: pruned",
    ]


def test_one_that_does_not_heed_an_interrupt_is_killed(monkeypatch):
    monkeypatch.setattr(runner, "STOP_TIMEOUT", 0.2)
    backend = ScriptBackend(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as does what it starts
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


def test_failures_are_reported_when_the_others_have_ended(capsys):
    backend = ScriptBackend("import sys; print('a reason'); sys.exit(3)")
    with pytest.raises(UserError) as error:
        run_parallel(specs("abc"), backend)
    message = str(error.value)
    assert [line for line in message.splitlines() if "failed" in line] == [
        f"{name} failed. Its last lines:" for name in "abc"
    ]
    assert message.count("  | a reason") == 3
    assert sorted(backend.closed) == [(name, False) for name in "abc"]
    printed = [line.split(" after")[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(printed) == ["a: failed", "b: failed", "c: failed"]


def test_a_clone_that_can_not_be_set_up_is_removed(toy, monkeypatch):
    monkeypatch.chdir(toy.folder)
    backend = LocalBackend()
    backend.commit = "no commit"
    with pytest.raises(UserError, match="reset"):
        backend.start(ExperimentSpec("a"))
    assert list(Path(".dvc/tmp").glob("experiments-*")) == []


def test_experiments_that_start_at_once_are_not_mixed_up(toy, monkeypatch):
    """In one clone, DVC would pop what another has stashed there, as it starts and as it ends."""
    monkeypatch.chdir(toy.folder)
    monkeypatch.setenv("PATH", user_env()["PATH"])
    backend = LocalBackend()
    LOGS.mkdir(parents=True)
    jobs = {
        spec: backend.start(spec)
        for spec in (ExperimentSpec(name, {"seed": seed}) for seed, name in enumerate("abc"))
    }
    for spec, job in jobs.items():
        assert job.process.wait(TIMEOUT) == 0, spec.log.read_text()
        assert spec.log.read_text().count("Running stage 'train'") == 1
        job.close(keep=True)
    assert list(Path(".dvc/tmp").glob("experiments-*")) == []
    experiments = list_experiments(head())
    seeds = {name: yaml_at(commit, "params.yaml")["seed"] for name, commit in experiments.items()}
    assert seeds == {"a": 0, "b": 1, "c": 2}
