"""`make` rebuilds everything, and its last line says if this machine computes other bytes."""

import re

import pytest

from tools.experiments.results import TEST_METRICS, TRAIN_METRICS, has_our_environment
from tools.git import head
from tools.rebuild import machine_note

MARK = "differ from the committed ones"


def test_make_rebuilds_equal_bytes_and_results_of_another_environment_can_be_undone(clone):
    clone.run("git", "rm", "--quiet", "metrics/noise.json")  # the last line does not need it
    clone.commit("No noise")
    output = clone.python("tools.rebuild")
    assert "Running stage 'train'" in output and MARK not in output
    assert re.search(r"short: completed after \d+ s", output)
    assert clone.run("git", "status", "--porcelain") == ""

    clone.set("experiments={short: {train.epochs: 1}, same: {}}")
    clone.commit("An experiment with the params of the workspace")
    (clone.folder / "models/model.keras").write_bytes(b"corrupted")
    output = clone.python("tools.rebuild", ARITHMETIC="native")
    assert "same: train" in output and "Running stage" not in output  # which trains once for both
    last = output.splitlines()[-1]
    because = f"outputs {MARK} because of the environment (here: native arithmetic)"
    assert last.startswith(f"2 of 14 {because}")  # train.json and test.json name it
    assert "`make verify`" in last
    assert "Running stage" not in clone.python("tools.rebuild", ARITHMETIC="native")
    command = re.search("`(git checkout .*?)`", last)[1]
    assert clone.run("git", "status", "--porcelain") != ""
    clone.run(*command.split())
    # DVC's run cache then has native results, of which `dvc repro` keeps the prepared data
    clone.dvc("repro", "--force", ARITHMETIC="native")
    output = clone.python("tools.rebuild")
    assert "Running stage 'prepare'" in output and "native" not in output
    clone.dvc("repro", "--force", "--downstream", "train", ARITHMETIC="native")
    output = clone.python("tools.rebuild")
    assert re.findall(r"Running stage '(\w+)'", output) == ["train", "evaluate", "plot"]
    assert "native" not in output
    others = ":!metrics/comparisons", ":!plots/comparisons"  # with another experiment
    assert clone.run("git", "status", "--porcelain", "--", *others) == ""


def test_scores_of_another_environment_make_a_result_stale():
    """As a plain `dvc repro` leaves them that runs only evaluate."""
    contents = {TRAIN_METRICS: b"{}", TEST_METRICS: b"{}"}
    assert has_our_environment(contents.get)
    contents[TEST_METRICS] = b'{"environment": "native arithmetic"}'
    assert not has_our_environment(contents.get)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, None),
        ({"{plots/loss.png}": "f" * 32}, "1 of 14 outputs differ"),
        ({"{data/prepared}": "f" * 28 + ".dir"}, "1 of 14 outputs differ"),
        ({"{plots/loss.png}": "f" * 32, "seed: 42": "seed: 43"}, None),
        ({"{plots/loss.png}": "f" * 32, "{stages/train.py}": "f" * 32}, None),
        ({"{plots/loss.png}": "f" * 32, "cmd: python": "cmd: python -X dev"}, None),
    ],
    ids=["equal", "output", "output that a stage reads", "params", "code", "command"],
)
def test_the_machine_is_blamed_only_for_equal_inputs(clone, monkeypatch, changes, start):
    """Results of code that was committed without them are not this machine's fault."""
    text = clone.read("dvc.lock").decode()
    for old, new in changes.items():
        if old.startswith("{"):
            old = re.search(rf"path: {old[1:-1]}\n(?: +hash: md5\n)? +md5: (\S+)", text)[1]
        assert old in text
        text = text.replace(old, new)
    (clone.folder / "dvc.lock").write_text(text)
    monkeypatch.chdir(clone.folder)
    note = machine_note(head())
    assert (note or "").startswith(start or "") and bool(note) == bool(start)
    assert not note or ("`make verify`" in note and "because of" not in note)
