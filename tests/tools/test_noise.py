import json
import statistics

from tests.support.repository import Repository
from tools.gate.noise import parse_noise


def test_noise_is_every_metric_of_every_seed(built_toy, tmp_path):
    toy = Repository(built_toy).copy(tmp_path / "project")
    toy.set("prepare.validation_size=100")  # not committed, so not part of it
    output = toy.python("tools.gate.noise", "--seeds", "5")
    assert "| accuracy" in output and "Written: metrics/noise.json, of 5 runs" in output
    assert "noise is that of HEAD" in output
    table = parse_noise(toy.read("metrics/noise.json"), "noise").table
    assert list(table.index) == [42, 43, 44, 45, 46]
    assert {"val_accuracy", "macro_f1", "class_f1/Bag", "class_recall/Bag"} <= {*table}

    toy.run("git", "checkout", "params.yaml")
    expected = {"accuracy": [], "val_accuracy": []}
    for seed in table.index:
        toy.set(f"seed={seed}")
        toy.dvc("repro")
        expected["accuracy"].append(json.loads(toy.read("metrics/test.json"))["accuracy"])
        expected["val_accuracy"].append(json.loads(toy.read("metrics/train.json"))["val_accuracy"])
    assert table[[*expected]].to_dict("list") == expected
    assert statistics.stdev(expected["accuracy"]) > 0
