"""`make`, as it is typed: pipeline, experiments, and a last line if this machine's bytes differ."""

import json
import re
from collections.abc import Callable

import pytest

from tools.git import head
from tools.rebuild import machine_note

MARK = "differ from the committed ones"


@pytest.fixture
def note(clone, monkeypatch) -> Callable[[], str | None]:
    """What the last line says of the clone as it is."""
    monkeypatch.chdir(clone.folder)
    return lambda: machine_note(head())


def test_where_the_bytes_are_equal_nothing_is_said_and_the_workspace_stays_clean(clone):
    output = clone.python("tools.rebuild")
    assert "Running stage 'train'" in output and MARK not in output
    assert re.search(r"short: completed after \d+ s", output)
    assert clone.run("git", "status", "--porcelain") == ""


def test_in_another_environment_all_runs_again_and_the_last_line_says_how_to_go_back(clone):
    clone.run("git", "rm", "--quiet", "metrics/noise.json")  # which nothing here needs
    clone.commit("No noise")
    clone.python("tools.rebuild")
    last = clone.python("tools.rebuild", ARITHMETIC="native").splitlines()[-1]
    because = f"outputs {MARK} because of the environment (here: native arithmetic)"
    assert last.startswith(f"2 of 14 {because}")  # train.json and test.json name it
    assert "Running stage" not in clone.python("tools.rebuild", ARITHMETIC="native")
    command = re.search("`(git checkout .*?)`", last)[1]
    assert clone.run("git", "status", "--porcelain") != ""
    clone.run(*command.split())
    assert "native" not in clone.python("tools.rebuild")  # whatever DVC's run cache has
    assert clone.run("git", "status", "--porcelain") == ""


def test_bytes_that_differ_with_the_pinned_packages_are_no_matter_of_the_machine(clone, note):
    lock = clone.read("dvc.lock").decode()
    md5 = clone.output_md5("plots/loss.png")
    (clone.folder / "dvc.lock").write_text(lock.replace(md5, "f" * 32))
    clone.commit("A claim")
    clone.dvc("repro")
    assert note().startswith("1 of 14 outputs differ") and "`make verify`" in note()
    assert "equal" in note() and "because of" not in note()


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
