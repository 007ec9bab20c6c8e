"""`make` rebuilds everything, and its last line says if this machine computes other bytes."""

import re

import pytest

from tools.git import head
from tools.rebuild import machine_note

MARK = "differ from the committed ones"


def test_make_rebuilds_equal_bytes_and_other_committed_ones_can_be_restored(clone):
    clone.run("git", "rm", "--quiet", "metrics/noise.json")  # the last line does not need it
    clone.commit("No noise")
    output = clone.python("tools.rebuild")
    assert "Running stage 'train'" in output and MARK not in output
    assert re.search(r"short: completed after \d+ s", output)
    assert clone.run("git", "status", "--porcelain") == ""

    clone.rewrite("metrics/test.json", clone.read("metrics/test.json").decode() + "\n")
    clone.commit("Results of another machine")
    clone.dvc("repro", "--force", "--single-item", "evaluate")
    last = clone.python("tools.rebuild").splitlines()[-1]
    assert last.startswith(f"1 of 14 outputs {MARK}") and "`make verify`" in last
    assert clone.run("git", "status", "--porcelain") != ""
    clone.run(*re.search("`(git checkout .*?)`", last)[1].split())
    assert clone.run("git", "status", "--porcelain") == ""


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
