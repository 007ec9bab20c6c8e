import json
from pathlib import Path

import numpy as np

from bench.speed import RAW, grown_project
from fashion.core.dataset import read_dataset
from fashion.core.files import sha256
from fashion.data.idx import read_idx


def test_a_grown_project_describes_its_data_which_is_repeated(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    with grown_project(3) as folder:
        for name, file in read_dataset(folder / "dataset.yaml").files:
            assert file.sha256 == sha256(folder / RAW / file.name)
            shape = (None, 28, 28) if "images" in name else (None,)
            once, thrice = (read_idx(path / RAW / file.name, shape) for path in (Path(), folder))
            assert (thrice == np.concatenate([once] * 3)).all()


def test_the_least_of_it_runs_and_is_not_recorded(repository):
    output = repository.python("bench.speed", "--smoke", "--only", "training")
    assert "| batch 64, portable, 1 thread | " in output
    assert not repository.run("git", "status", "--porcelain")


def test_the_plain_script_writes_what_an_experiment_writes(repository, tmp_path):
    repository.set("experiments={run: {train.epochs: 2, train.batch_size: 64}}")
    repository.python("bench.baseline", str(tmp_path))
    pictures = {path.name for path in (repository.folder / "plots").glob("*.png")}
    assert {path.name for path in (tmp_path / "run").glob("*.png")} == pictures
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    assert metrics.keys() == json.loads(repository.read("metrics/test.json")).keys()
    assert len((tmp_path / "run/history.csv").read_text().splitlines()) == 1 + 2
