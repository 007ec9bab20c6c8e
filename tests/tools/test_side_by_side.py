import time
from pathlib import Path
from types import SimpleNamespace

import psutil

from tools.side_by_side import Experiment, run_side_by_side


class Elsewhere:
    """A place in which every experiment has ended as soon as it has begun."""

    room, in_turn = 4, False

    def __init__(self):
        self.fetched = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self, name: str, settings: list[str], log: Path):
        log.write_text(f"epoch 1/1 loss 1 accuracy 0 val_loss 1 val_accuracy 0 {settings}\n")
        return SimpleNamespace(returncode=0, poll=lambda: 0)

    def fetch(self, name: str) -> None:
        self.fetched.append(name)


def test_a_thousand_experiments_do_not_keep_a_thousand_logs_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before, opened, place = psutil.Process().num_fds(), [], Elsewhere()
    experiments = [Experiment(f"trial-{i:03d}", {"seed": i}) for i in range(1000)]
    run_side_by_side(
        iter(experiments), watch=lambda _: opened.append(psutil.Process().num_fds()), place=place
    )
    assert max(opened) <= before + place.room and len(opened) == 1000
    assert place.fetched == [experiment.name for experiment in experiments]
