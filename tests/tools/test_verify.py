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


def claim(clone: Repository, accuracy: float, environment: str | None) -> None:
    """Have the last commit claim a lower test accuracy, and maybe another environment."""
    values = json.loads(clone.read("metrics/test.json"))
    values["accuracy"] -= accuracy
    clone.rewrite("metrics/test.json", json.dumps(values))
    if environment:
        values = json.loads(clone.read("metrics/train.json")) | {"environment": environment}
        clone.rewrite("metrics/train.json", json.dumps(values))
    clone.commit("Another claim")


@pytest.mark.parametrize(
    ("accuracy", "environment", "status", "said"),
    [
        (0.0001, "keras 1, not 2", 3, "The metrics agree within noise."),
        (0.0001, None, 1, "though both were made with the pinned packages: they should be equal"),
        (0.3, "keras 1, not 2", 1, "By more than noise explains: accuracy: "),
        (-0.3, "keras 1, not 2", 1, "By more than noise explains: accuracy: "),
    ],
)
def test_a_result_that_is_different_is_explained_or_an_error(
    clone, accuracy, environment, status, said
):
    claim(clone, accuracy, environment)
    output = clone.python("tools.gate.verify", status=status)
    lines = output.splitlines()
    assert said in output and ("committed: keras 1, not 2" in output) == bool(environment)
    assert any("metrics/test.json" in line and "✗ different" in line for line in lines)
    assert sum("✗ different" in line for line in lines) == 1 + bool(environment)


def test_make_names_the_status_that_it_turns_into_2(clone):
    claim(clone, 0.0001, "keras 1, not 2")
    output = clone.make("verify", status=2)
    assert "The metrics agree within noise" in output and "Error 3" in output


def test_a_missing_revision_is_named(committed):
    output = committed.python("tools.gate.verify", "nowhere", status=1)
    assert "there is no revision nowhere" in output
