import json
import statistics


def test_noise_is_the_spread_over_seeds(repository):
    repository.set_params("train.epochs=1")
    repository.commit("One epoch")
    repository.dvc("repro", "train", "evaluate")
    first = json.loads(repository.read("metrics/test.json"))["accuracy"]
    repository.commit("Its results")
    repository.python("tools.noise", "--seeds", "2")
    noise = json.loads(repository.read("metrics/noise.json"))
    assert noise["runs"] == 2 and noise["seeds"] == [42, 43]
    assert noise["params"]["train"]["epochs"] == 1 and "seed" not in noise["params"]
    assert "tensorflow" in noise["environment"]["packages"] and "settings" not in noise["environment"]
    assert "noise-seed" not in repository.dvc("exp", "list")

    repository.dvc("exp", "run", "--set-param", "seed=43")
    second = json.loads(repository.read("metrics/test.json"))["accuracy"]
    assert abs(noise["metrics"]["accuracy"]["mean"] - statistics.mean([first, second])) < 1e-6
    assert abs(noise["metrics"]["accuracy"]["deviation"] - statistics.stdev([first, second])) < 1e-6
