import json
import statistics

import pytest

from tests.support.commands import call
from tests.support.repository import Repository
from tools.gate import noise

pytestmark = pytest.mark.xdist_group(__name__)  # so that what they share is made once


@pytest.fixture(scope="module")
def measured_once(built_toy, tmp_path_factory):
    """A repository with the noise of two seeds, measured and committed."""
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("measured") / "project")
    toy.set("metrics={accuracy: {better: higher}, loss: {better: lower}}")
    toy.commit("Two metrics")
    call(noise.main, toy.folder, "--seeds", "2")
    toy.commit("Its noise")
    return toy


@pytest.fixture
def measured(measured_once, tmp_path):
    return measured_once.copy(tmp_path / "project")


def test_noise_is_the_spread_over_seeds(measured):
    found = json.loads(measured.read("metrics/noise.json"))
    assert found["runs"] == 2 and found["seeds"] == [42, 43]
    assert found["params"]["train"]["epochs"] == 2 and "seed" not in found["params"]
    assert (
        "tensorflow" in found["environment"]["packages"] and "settings" not in found["environment"]
    )
    assert "noise-seed" not in measured.dvc("exp", "list")

    first = json.loads(measured.read("metrics/test.json"))["accuracy"]
    measured.dvc("exp", "run", "--set-param", "seed=43")
    second = json.loads(measured.read("metrics/test.json"))["accuracy"]
    assert first != second
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(
        statistics.mean([first, second]), abs=1e-6
    )
    assert found["metrics"]["accuracy"]["std"] == pytest.approx(
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
