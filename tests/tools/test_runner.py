import time
from pathlib import Path

import psutil

from tools.experiments.backend import Backend, ExperimentSpec, Job
from tools.experiments.runner import run_parallel


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
        log.write_text(f"epoch 1/1 loss 1 accuracy 0 val_loss 1 val_accuracy 0 {spec.arguments}\n")
        return Completed()

    def fetch(self, name: str) -> None:
        self.fetched.append(name)


def test_a_thousand_experiments_do_not_keep_a_thousand_logs_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before, opened, backend = psutil.Process().num_fds(), [], ImmediateBackend()
    specs = [ExperimentSpec(f"trial-{i:03d}", {"seed": i}) for i in range(1000)]
    run_parallel(
        iter(specs), watch=lambda _: opened.append(psutil.Process().num_fds()), backend=backend
    )
    assert max(opened) <= before + backend.capacity and len(opened) == 1000
    assert backend.fetched == [spec.name for spec in specs]
