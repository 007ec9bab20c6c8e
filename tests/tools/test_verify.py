import json
from contextlib import nullcontext

import pytest

from fashion.environment import PORTABLE
from tests.support.repository import Repository
from tools.gate import verify


def test_a_commit_that_rebuilds_to_the_byte_is_verified_and_nothing_here_changes(committed):
    before, status = committed.results(), committed.run("git", "status", "--short")
    output = committed.python("tools.gate.verify")
    assert "all 15 outputs are equal to the byte" in output
    for path in (
        "data/prepared",
        "models/model.keras",
        "metrics/test.json",
        "plots/loss.png",
        "metrics/experiments.csv",
    ):
        assert any(path in line and "✓ equal" in line for line in output.splitlines()), path
    assert committed.results() == before
    assert committed.run("git", "status", "--short") == status
    assert not list((committed.folder / ".dvc/tmp").glob("verify-*"))


def claim(clone, accuracy: float, cpu: str | None = None) -> Repository:
    """Have the last commit claim another test accuracy, by so much less.

    Maybe it claims another processor as well.
    """
    values = json.loads(clone.read("metrics/test.json"))
    values["accuracy"] -= accuracy
    clone.rewrite("metrics/test.json", json.dumps(values))
    if cpu:
        recorded = clone.folder / "metrics/environment.json"
        recorded.write_text(json.dumps(json.loads(recorded.read_text()) | {"cpu": cpu}))
    clone.commit("Another claim")
    return clone


def test_another_result_in_another_environment_is_the_same_within_noise(clone):
    output = claim(clone, 0.0001, cpu="another").python("tools.gate.verify", status=3)
    assert (
        "1 of 15 outputs differ from the committed ones because of the machine"
        " or its packages (cpu)" in output
    )
    assert output.splitlines()[-1].endswith("; the metrics agree within noise.")
    assert "cpu: another ->" in output
    assert any(
        "metrics/test.json" in line and "✗ different" in line for line in output.splitlines()
    )
    assert "Traceback" not in output


def test_native_arithmetic_is_told_beside_the_hashes(committed, clone, monkeypatch, call):
    native = {"arithmetic": "native arithmetic (aarch64)"}
    train = json.loads(clone.read("metrics/train.json")) | native
    clone.rewrite("metrics/train.json", json.dumps(train))
    monkeypatch.setattr(verify, "rebuilt", lambda commit: nullcontext(clone.folder))
    monkeypatch.setattr(verify, "describe_environment", lambda: {"system": "Linux aarch64"})
    output = call(committed, verify, status=3)
    assert "| rebuilt, native arithmetic (aarch64)" in output
    assert "1 of 15 outputs differ" in output
    assert "because of the machine or its packages" in output


@pytest.mark.parametrize(
    ("accuracy", "cpu", "said"),
    [
        (0.0001, None, "in the recorded environment every byte should be equal"),
        (0.3, None, "Further apart than noise explains"),
        (-0.3, "another", "Further apart than noise explains"),
    ],
)
def test_anything_else_is_not_reproduced(committed, clone, accuracy, cpu, said, monkeypatch, call):
    """With the project as it stands for the rebuild that gave the same as ever."""
    monkeypatch.setattr(verify, "rebuilt", lambda commit: nullcontext(committed.folder))
    output = call(claim(clone, accuracy, cpu), verify, status=1)
    assert "was not reproduced" in output and said in output


def test_only_threads_that_change_bytes_make_another_environment(committed, monkeypatch):
    monkeypatch.chdir(committed.folder)
    for name in (*PORTABLE, "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "7")
    assert verify.other_environment("HEAD") == {}
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    found = verify.other_environment("HEAD")
    assert found == {"settings.TF_NUM_INTRAOP_THREADS": ("1", "7")}


def test_a_missing_revision_is_named(committed):
    output = committed.python("tools.gate.verify", "nowhere", status=1)
    assert "there is no revision nowhere" in output and "Traceback" not in output
