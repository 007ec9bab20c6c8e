import json

import pytest

from tests.support.repository import Repository


def test_a_commit_that_rebuilds_to_the_byte_is_verified_and_nothing_here_changes(committed):
    before, status = committed.results(), committed.run("git", "status", "--short")
    output = committed.python("tools.gate.verify")
    assert "all 17 outputs are equal to the byte" in output
    for name in ("data/prepared", "models/model.keras", "plots/loss.png", "accuracy of short"):
        assert any(name in line and "✓ equal" in line for line in output.splitlines()), name
    assert committed.results() == before
    assert committed.run("git", "status", "--short") == status
    assert not list((committed.folder / ".dvc/tmp").glob("verify-*"))


def claim(clone: Repository, accuracy: float, cpu: str | None) -> None:
    """Have the last commit claim a lower test accuracy, and maybe another processor."""
    values = json.loads(clone.read("metrics/test.json"))
    values["accuracy"] -= accuracy
    clone.rewrite("metrics/test.json", json.dumps(values))
    if cpu:
        recorded = clone.folder / "metrics/environment.json"
        recorded.write_text(json.dumps(json.loads(recorded.read_text()) | {"cpu": cpu}))
    clone.commit("Another claim")


@pytest.mark.parametrize(
    ("accuracy", "cpu", "status", "said"),
    [
        (0.0001, "another", 3, "The metrics agree within noise."),
        (0.0001, None, 1, "though the environment is the recorded one: they should be equal"),
        (0.3, "another", 1, "By more than noise explains: accuracy: "),
        (-0.3, "another", 1, "By more than noise explains: accuracy: "),
    ],
)
def test_a_result_that_is_different_is_explained_or_an_error(clone, accuracy, cpu, status, said):
    claim(clone, accuracy, cpu)
    output = clone.python("tools.gate.verify", status=status)
    lines = output.splitlines()
    assert said in output and ("cpu: another ->" in output) == bool(cpu)
    assert any("metrics/test.json" in line and "✗ different" in line for line in lines)
    assert sum("✗ different" in line for line in lines) == 1


def test_make_names_the_status_that_it_turns_into_2(clone):
    claim(clone, 0.0001, "another")
    output = clone.make("verify", status=2)
    assert "The metrics agree within noise" in output and "Error 3" in output


def test_a_missing_revision_is_named(committed):
    output = committed.python("tools.gate.verify", "nowhere", status=1)
    assert "there is no revision nowhere" in output
