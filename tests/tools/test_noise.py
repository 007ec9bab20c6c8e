import json
import statistics

import pytest

from tests.support.commands import call
from tests.support.repository import Repository
from tools.gate import noise
from tools.gate.noise import parse_noise

pytestmark = pytest.mark.xdist_group(__name__)  # so that what they share is made once


@pytest.fixture(scope="module")
def measured_once(built_toy, tmp_path_factory):
    """A repository with the noise of two seeds, measured and committed."""
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("measured") / "project")
    call(noise.main, toy.folder, "--seeds", "2")
    toy.commit("Its noise")
    return toy


@pytest.fixture
def measured(measured_once, tmp_path):
    return measured_once.copy(tmp_path / "project")


def test_noise_is_every_metric_of_every_seed(measured):
    found = json.loads(measured.read("metrics/noise.json"))
    assert found["seeds"] == [42, 43]
    assert found["params"]["train"]["epochs"] == 2 and "seed" not in found["params"]
    assert (
        "tensorflow" in found["environment"]["packages"] and "settings" not in found["environment"]
    )
    assert "noise-seed" not in measured.dvc("exp", "list")
    assert not (measured.folder / "metrics/reference.json").exists()

    first = json.loads(measured.read("metrics/test.json"))["accuracy"]
    measured.dvc("exp", "run", "--set-param", "seed=43")
    second = json.loads(measured.read("metrics/test.json"))["accuracy"]
    assert first != second and found["metrics"]["accuracy"] == [first, second]
    table = parse_noise(measured.read("metrics/noise.json"), "noise").table
    assert table["accuracy"].std() == pytest.approx(statistics.stdev([first, second]))


def test_it_can_become_the_reference_as_well(measured):
    output = call(noise.main, measured.folder, "--seeds", "2", "--reference")
    assert measured.read("metrics/reference.json") == measured.read("metrics/noise.json")
    assert "| accuracy" in output and "Written: metrics/noise.json, of 2 runs" in output
