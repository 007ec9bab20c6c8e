import json
import statistics

import pytest

from tests.support.repository import Repository

pytestmark = pytest.mark.xdist_group(__name__)  # so that what they share is made once


@pytest.fixture(scope="module")
def measured_once(built, tmp_path_factory):
    """A repository with the noise of two seeds, measured and committed."""
    repository = Repository(built).copy(tmp_path_factory.mktemp("measured") / "project")
    repository.set(
        "train.epochs=1",
        "metrics={accuracy: {better: higher}, loss: {better: lower}}",
    )
    repository.dvc("repro")
    repository.commit("One epoch")
    repository.python("tools.gate.noise", "--seeds", "2")
    repository.commit("Its noise")
    return repository


@pytest.fixture
def measured(measured_once, tmp_path):
    return measured_once.copy(tmp_path / "project")


def test_noise_is_the_spread_over_seeds(measured):
    noise = json.loads(measured.read("metrics/noise.json"))
    assert noise["runs"] == 2 and noise["seeds"] == [42, 43]
    assert noise["params"]["train"]["epochs"] == 1 and "seed" not in noise["params"]
    assert (
        "tensorflow" in noise["environment"]["packages"] and "settings" not in noise["environment"]
    )
    assert "noise-seed" not in measured.dvc("exp", "list")

    first = json.loads(measured.read("metrics/test.json"))["accuracy"]
    measured.dvc("exp", "run", "--set-param", "seed=43")
    second = json.loads(measured.read("metrics/test.json"))["accuracy"]
    assert noise["metrics"]["accuracy"]["mean"] == pytest.approx(
        statistics.mean([first, second]), abs=1e-6
    )
    assert noise["metrics"]["accuracy"]["std"] == pytest.approx(
        statistics.stdev([first, second]), abs=1e-6
    )


def test_check_compares_means_over_seeds(measured):
    output = measured.python("tools.gate.check", "--baseline", "HEAD", "--seeds", "2")
    assert output.count("+0.0000") == 2 and "### Check against HEAD: ✓ holds" in output
    measured.set("prepare.split_seed=7")
    measured.commit("A baseline whose noise was not measured")
    assert "measured for other params" in measured.python(
        "tools.gate.check", "--baseline", "HEAD", "--seeds", "2", status=2
    )
