"""`make verify`: equal bytes, and how a difference is explained."""

import json
import re
import statistics

import pytest

from fashion.core.errors import UserError
from tests.support.repository import Repository
from tools.gate.verify import beyond_noise


def test_a_commit_that_rebuilds_to_the_byte_is_verified_and_nothing_here_changes(committed):
    before, status = committed.results(), committed.run("git", "status", "--short")
    output = committed.python("tools.gate.verify")
    assert "all 14 outputs are equal to the byte" in output
    assert committed.results() == before
    assert committed.run("git", "status", "--short") == status
    assert not list((committed.folder / ".dvc/tmp").glob("verify-*"))


def test_a_commit_with_other_packages_is_verified_from_its_checkout(clone):
    pins = clone.folder / "fashion/core/requirements.txt"
    pins.write_text(pins.read_text().replace("numpy==", "numpy==9"))
    clone.commit("An upgrade")
    message = clone.python("tools.gate.verify", "HEAD~1", status=1)
    checkout, verify = re.search("`(.*) && make (verify)`", message).groups()
    clone.run(*checkout.split())
    assert "equal to the byte" in clone.make(verify)


def test_a_commit_without_a_pipeline_is_named(clone):
    (clone.folder / "dvc.yaml").unlink()
    clone.commit("No pipeline")
    commit = clone.run("git", "rev-parse", "--short=7", "HEAD").strip()
    output = clone.python("tools.gate.verify", status=1)
    assert output == f"verify: {commit} has no dvc.yaml, so it can't be run\n"


def claim(clone: Repository, path: str, **values) -> None:
    """Have the last commit claim other metrics."""
    (clone.folder / path).write_text(json.dumps(json.loads(clone.read(path)) | values))
    clone.commit("Another claim")


def test_a_difference_is_an_error_unless_another_environment_and_noise_explain_it(clone):
    accuracy = json.loads(clone.read("metrics/test.json"))["accuracy"]
    claim(clone, "metrics/test.json", accuracy=accuracy - 0.0001)
    output = clone.python("tools.gate.verify", status=1)
    assert "though the pinned packages computed both: they should be equal" in output
    assert "- metrics/test.json differs from Git" in output and "1 of 14 outputs" in output
    clone.set("arithmetic=native")
    claim(clone, "metrics/train.json", environment="arithmetic of arm64")
    output = clone.make("verify", status=2)  # which names the status that it turns into 2
    assert "committed: arithmetic of arm64, here: native" in output and "Error 3" in output
    assert "The metrics agree within noise." in output
    claim(clone, "metrics/test.json", accuracy=0.0)
    output = clone.python("tools.gate.verify", status=1)
    assert "Noise does not explain these differences: accuracy: 0.0000 -> " in output


@pytest.mark.parametrize(("deviations", "found"), [(3.9, 0), (4.1, 1), (-4.1, 1)])
def test_noise_explains_differences_of_four_standard_deviations(
    committed, monkeypatch, deviations, found
):
    monkeypatch.chdir(committed.folder)
    values = json.loads(committed.read("metrics/noise.json"))["metrics"]["accuracy"]
    metrics = {"accuracy": 0.7, "macro_f1": 0.7, "epoch": 2}
    other = metrics | {"accuracy": 0.7 + deviations * statistics.stdev(values), "epoch": 3}
    lines = beyond_noise("HEAD", metrics, other)
    assert len(lines) == found and all("accuracy: 0.7000 -> " in line for line in lines)
    with pytest.raises(UserError, match=r"there is no metrics/noise\.json of HEAD~1"):
        beyond_noise("HEAD~1", metrics, other)
