import json
import zipfile
from contextlib import contextmanager

from joblib import cpu_count

from bench import scaling
from fashion.core.strict_yaml import read_yaml
from tests.support.commands import call
from tests.support.repository import Repository


def test_a_stub_copies_the_training_and_each_experiment_gets_another_model(
    repository, tmp_path, monkeypatch
):
    @contextmanager
    def clone(stage):
        yield repository.folder

    def run_one(folder, *words):
        one = Repository(folder).copy(tmp_path / "clone")
        one.set("seed=1007")
        one.dvc("repro", "train")
        assert zipfile.ZipFile(one.folder / "models/model.keras").testzip() is None
        assert one.read("models/model.keras") != repository.read("models/model.keras")
        assert one.read("plots/history.csv") == repository.read("plots/history.csv")
        runs = read_yaml(folder / "experiments.yaml")["groups"]["stub"].values()
        assert [run["seed"] for run in runs] == [1000, 1001, 1002, 1003]
        return {"seconds": 10, "CPU seconds": 18}

    monkeypatch.setattr(scaling, "clone", clone)
    monkeypatch.setattr(scaling, "measure", run_one)
    call(scaling.main, repository.folder, "--experiments", "4")
    sections = json.loads(repository.read("bench/results/scaling.json"))["sections"]
    costs = {"seconds each": [2.5], "CPU seconds each": [4.5]}
    assert sections[f"4 experiments on {cpu_count()} cores"] == {"": costs}


def test_a_sweep_runs_as_many_trials_at_a_time_as_nodes(toy, monkeypatch):
    @contextmanager
    def cluster(folder, nodes):
        yield f"{nodes} nodes", []

    def check_sweep(folder, *words):
        assert words == ("-m", "tools.experiments.sweep", "--ray", "3 nodes")
        sweep = read_yaml(folder / "experiments.yaml")["sweeps"]["small"]
        assert (sweep["trials"], sweep["jobs"]) == (6, 3)
        return {"seconds": 9, "CPU seconds": 12}

    monkeypatch.setattr(scaling, "ray_cluster", cluster)
    monkeypatch.setattr(scaling, "measure", check_sweep)
    call(scaling.main, toy.folder, "--trials", "6", "--nodes", "3")
    (row,) = json.loads(toy.read("bench/results/scaling.json"))["tables"]["scaling"]
    assert row[""] == "6 trials on 3 nodes" and row["seconds each"] == "1.5"
