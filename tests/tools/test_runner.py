import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fashion.core.errors import UserError
from tests.support.commands import TIMEOUT
from tools.experiments import runner
from tools.experiments.backend import Backend, ExperimentSpec, Job
from tools.experiments.local import CLONES, LocalBackend, LocalJob
from tools.experiments.run import State
from tools.experiments.runner import prune, run_parallel
from tools.git import head, list_experiments, yaml_at


class Completed(Job):
    def poll(self) -> int:
        return 0

    def interrupt(self) -> None:
        raise AssertionError("it has ended")

    kill = interrupt


class ImmediateBackend(Backend):
    """A backend in which every experiment has ended as soon as it has begun."""

    capacity = 4

    def __init__(self):
        self.fetched = []

    def start(self, spec: ExperimentSpec, log: Path) -> Completed:
        log.write_text(
            f"epoch 1/1 loss 1.0 accuracy 0.0 val_loss 1.0 val_accuracy 0.0\n{spec.arguments}\n"
        )
        return Completed()

    def fetch(self, name: str) -> None:
        self.fetched.append(name)


class ScriptBackend(Backend):
    """A backend in which an experiment is a Python script that the test chooses."""

    capacity = 2

    def __init__(self, script: str):
        self.script, self.jobs, self.fetched, self.discarded = script, [], [], []

    def start(self, spec: ExperimentSpec, log: Path) -> LocalJob:
        with log.open("w") as file:
            words = [sys.executable, "-c", self.script]
            self.jobs.append(LocalJob(subprocess.Popen(words, stdout=file, start_new_session=True)))
        return self.jobs[-1]

    def fetch(self, name: str) -> None:
        self.fetched.append(name)

    def discard(self, name: str) -> None:
        self.discarded.append(name)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    """Work in a new folder, and handle signals afterwards as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_thousand_experiments_do_not_keep_a_thousand_logs_open(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before, opened, backend = psutil.Process().num_fds(), [], ImmediateBackend()
    specs = [ExperimentSpec(f"trial-{i:03d}", {"seed": i}) for i in range(1000)]
    run_parallel(
        iter(specs), watch=lambda _: opened.append(psutil.Process().num_fds()), backend=backend
    )
    assert max(opened) <= before + backend.capacity and len(opened) == 1000
    assert backend.fetched == [spec.name for spec in specs]


def test_one_that_is_pruned_is_told_and_stopped_and_not_fetched(capsys):
    line = "epoch 1/9 loss 1.0 accuracy 0.5 val_loss 1.0 val_accuracy 0.5"
    backend = ScriptBackend(f"import time; print({line!r}, flush=True); time.sleep(1000)")
    ended = []

    def watch(run):
        if run.history:
            prune(run)
        ended.append(run)

    run_parallel([ExperimentSpec("a"), ExperimentSpec("b")], watch=watch, backend=backend)
    assert all(job.poll() is not None for job in backend.jobs) and backend.fetched == []
    assert {run.state for run in ended} == {State.PRUNED}
    assert sorted(backend.discarded) == ["a", "b"]
    told = capsys.readouterr().out.splitlines()
    assert sorted(told) == [
        "a: epoch 1/9, validation accuracy 0.5000",
        "a: pruned",
        "b: epoch 1/9, validation accuracy 0.5000",
        "b: pruned",
    ]


def test_one_that_does_not_heed_an_interrupt_is_killed(monkeypatch):
    monkeypatch.setattr(runner, "STOP_TIMEOUT", 0.2)
    line = "epoch 1/9 loss 1.0 accuracy 0.5 val_loss 1.0 val_accuracy 0.5"
    backend = ScriptBackend(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as does what it starts
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"print({line!r}, flush=True)\n"
        "time.sleep(1000)"
    )
    started = []

    def watch(run):
        started.extend(psutil.Process(run.job.process.pid).children())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_parallel([ExperimentSpec("a")], watch=watch, backend=backend)
    assert backend.jobs[0].poll() == -signal.SIGKILL
    assert len(started) == 1 and psutil.wait_procs(started, timeout=60)[1] == []


def test_what_failed_is_told_when_the_others_have_ended(capsys):
    backend = ScriptBackend("import sys; print('a reason'); sys.exit(3)")
    specs = [ExperimentSpec("a"), ExperimentSpec("b"), ExperimentSpec("c")]
    with pytest.raises(UserError) as error:
        run_parallel(specs, backend=backend)
    message = str(error.value)
    assert [line for line in message.splitlines() if "failed" in line] == [
        f"{name} failed. Its last lines:" for name in "abc"
    ]
    assert message.count("  | a reason") == 3 and backend.fetched == []
    assert sorted(backend.discarded) == ["a", "b", "c"]
    assert sorted(line.split(" after")[0] for line in capsys.readouterr().out.splitlines()) == [
        "a: failed", "b: failed", "c: failed",
    ]  # fmt: skip


def test_a_clone_that_can_not_be_set_up_is_removed(toy, monkeypatch):
    monkeypatch.chdir(toy.folder)
    with pytest.raises(UserError, match="apply"), LocalBackend() as backend:
        backend.patch = b"no patch"
        backend.start(ExperimentSpec("a"), Path("a"))
    assert CLONES.is_dir() and list(CLONES.iterdir()) == []


def test_experiments_that_start_at_once_are_not_mixed_up(toy, monkeypatch):
    """In one clone, DVC takes up what another has stashed there, as it starts and as it ends."""
    monkeypatch.chdir(toy.folder)
    specs = [ExperimentSpec(name, {"seed": seed}) for seed, name in enumerate("abc")]
    with LocalBackend() as backend:
        jobs = [backend.start(spec, Path(spec.name)) for spec in specs]
        for spec, job in zip(specs, jobs, strict=True):
            log = Path(spec.name)
            assert job.process.wait(TIMEOUT) == 0, log.read_text()
            assert log.read_text().count("Running stage 'train'") == 1
            backend.fetch(spec.name)
            backend.discard(spec.name)
        assert list(backend.folder.iterdir()) == []
    experiments = list_experiments(head())
    seeds = {name: yaml_at(commit, "params.yaml")["seed"] for name, commit in experiments.items()}
    assert seeds == {"a": 0, "b": 1, "c": 2}
