"""`make`, as it is typed: pipeline, experiments, and a last line if this machine's bytes differ."""

import json
import re
from collections.abc import Callable

import pytest

from tools.git import head
from tools.rebuild import machine_note

MARK = "differ from the committed ones"
OTHERWISE = {"TF_ENABLE_ONEDNN_OPTS": "0"}  # so that metrics say "native arithmetic"


@pytest.fixture
def note(clone, monkeypatch) -> Callable[[], str | None]:
    """What the last line says of the clone as it is."""
    monkeypatch.chdir(clone.folder)
    return lambda: machine_note(head())


def test_where_the_bytes_are_equal_nothing_is_said_and_the_workspace_stays_clean(clone):
    record = clone.folder / "metrics/environment.json"
    content = json.loads(record.read_text()) | {"cpu": "another"}
    record.write_text(json.dumps(content, indent=2) + "\n")
    clone.commit("As if made elsewhere")
    output = clone.python("tools.rebuild")
    assert "Running stage 'train'" in output and MARK not in output
    assert re.search(r"short: completed after \d+ s", output)
    assert clone.run("git", "status", "--porcelain") == ""


def test_where_the_machine_computes_otherwise_the_last_line_says_so_and_how_to_go_back(clone):
    last = clone.python("tools.rebuild", **OTHERWISE).splitlines()[-1]
    assert last.startswith(  # metrics/train.json, which names the arithmetic
        f"1 of 14 outputs {MARK} because of the machine or its packages"
        " (settings.TF_ENABLE_ONEDNN_OPTS: 1 -> 0)"
    )
    command = re.search("`(git checkout .*?)`", last)[1]
    assert clone.run("git", "status", "--porcelain") != ""
    clone.run(*command.split())
    assert clone.run("git", "status", "--porcelain") == ""


def test_bytes_that_differ_in_the_recorded_environment_are_no_matter_of_the_machine(clone, note):
    lock = clone.read("dvc.lock").decode()
    md5 = clone.output_md5("plots/loss.png")
    (clone.folder / "dvc.lock").write_text(lock.replace(md5, "f" * 32))
    clone.commit("A claim")
    clone.dvc("repro")
    assert note().startswith("1 of 14 outputs differ") and "`make verify`" in note()
    assert "equal" in note() and "because of the machine" not in note()


def test_results_of_changed_params_are_not_laid_to_the_machine(clone, note):
    clone.set("seed=43")
    clone.dvc("repro")
    assert clone.run("git", "diff", "--name-only", "metrics/test.json") and note() is None


def test_results_of_code_that_was_committed_without_them_are_not_laid_to_the_machine(clone, note):
    path = clone.folder / "stages/train.py"
    path.write_text(path.read_text().replace('{"parameters": 1}', '{"parameters": 2}'))
    clone.commit("Code alone")
    clone.dvc("repro")
    assert json.loads(clone.read("metrics/train.json"))["parameters"] == 2 and note() is None
