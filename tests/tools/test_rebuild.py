"""`make`, as it is typed: pipeline, experiments, and where need be a last line.

The line is there where this machine computes other bytes.
"""

import json
import re
from collections.abc import Callable

import pytest

from fashion.core.strict_yaml import read_yaml
from tools.rebuild import machine_note

MARK = "differ from the committed ones"
OTHERWISE = {"TF_ENABLE_ONEDNN_OPTS": "0"}  # so that metrics say "native arithmetic"


@pytest.fixture
def note(clone, monkeypatch) -> Callable[..., str | None]:
    """What the last line says of the clone as it is."""

    def line(**variables: str) -> str | None:
        with monkeypatch.context() as patch:
            patch.chdir(clone.folder)
            for name, value in variables.items():
                patch.setenv(name, value)
            return machine_note()

    return line


def test_where_the_bytes_are_equal_nothing_is_said_and_the_working_copy_stays_clean(clone):
    record = clone.folder / "metrics/environment.json"
    record.write_text(
        json.dumps(json.loads(record.read_text()) | {"cpu": "another"}, indent=2) + "\n"
    )
    clone.commit("As if made elsewhere")
    output = clone.python("tools.rebuild")
    assert "Running stage 'train'" in output and MARK not in output
    assert re.search(r"short: completed after \d+ s", output)
    assert clone.run("git", "status", "--porcelain") == ""


def test_where_the_machine_computes_otherwise_the_last_line_says_so_and_how_to_go_back(clone):
    last = clone.python("tools.rebuild", **OTHERWISE).splitlines()[-1]
    assert last.startswith(  # metrics/train.json, which names the arithmetic
        f"1 of 14 outputs {MARK} because of the machine or its packages"
        " (settings.TF_ENABLE_ONEDNN_OPTS: 1 -> 0); the metrics agree within noise."
    )
    command = re.search("`(git checkout .*?)`", last)[1]
    assert clone.run("git", "status", "--porcelain") != ""
    clone.run(*command.split())
    assert clone.run("git", "status", "--porcelain") == ""


def test_metrics_beyond_noise_are_named(clone, note):
    scores = json.loads(clone.read("metrics/test.json"))
    clone.rewrite("metrics/test.json", json.dumps(scores | {"accuracy": 0.1}))
    clone.commit("A claim")
    clone.dvc("repro", "--force", **OTHERWISE)
    assert "by more than noise explains: accuracy: 0.1000 -> 0.6" in note(**OTHERWISE)


def test_bytes_that_differ_in_the_recorded_environment_are_no_matter_of_the_machine(clone, note):
    lock = clone.read("dvc.lock").decode()
    outs = read_yaml(clone.folder / "dvc.lock")["stages"]["plot"]["outs"]
    md5 = next(out["md5"] for out in outs if "loss" in out["path"])
    (clone.folder / "dvc.lock").write_text(lock.replace(md5, "f" * 32))
    clone.commit("A claim")
    clone.dvc("repro")
    assert note().startswith("1 of 14 outputs differ")
    assert "every byte should be equal. `make verify`" in note()


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


def test_without_noise_that_is_said(clone, note):
    (clone.folder / "metrics/noise.json").unlink()
    clone.commit("No noise")
    clone.dvc("repro", **OTHERWISE)
    assert "there is no metrics/noise.json" in note(**OTHERWISE)
