"""`make`, as it is typed: pipeline, experiments, and where need be a last line.

The line is there where this machine computes other bytes.
"""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml

MARK = "differ from the committed ones"
pytestmark = pytest.mark.xdist_group(__name__)  # so that what they share is made once


@pytest.fixture(scope="module")
def committed(compared, tmp_path_factory):
    """A project with all its results committed, made by `make`, and noise that is made up."""
    repository = compared(tmp_path_factory.mktemp("committed"))
    metrics = yaml.safe_load(repository.read("gate.yaml"))["metrics"]
    noise = {"runs": 10, "metrics": {name: {"mean": 0.5, "std": 0.5} for name in metrics}}
    (repository.folder / "metrics/noise.json").write_text(json.dumps(noise))
    repository.commit("The table, and made-up noise")
    repository.python("tools.rebuild")
    return repository


def fresh_clone(committed, folder):
    """A clone without a cache."""
    clone = type(committed)(folder / "clone")
    committed.run("git", "clone", "--quiet", ".", str(clone.folder))
    return clone


def test_where_the_bytes_are_equal_nothing_is_said_and_the_working_copy_stays_clean(
    committed, tmp_path
):
    clone = fresh_clone(committed, tmp_path)
    record = clone.folder / "metrics/environment.json"
    record.write_text(
        json.dumps(json.loads(record.read_text()) | {"cpu": "another"}, indent=2) + "\n"
    )
    clone.commit("As if made elsewhere")
    output = clone.python("tools.rebuild")
    assert "Running stage 'train'" in output and "short: done" in output and MARK not in output
    assert clone.run("git", "status", "--porcelain") == ""


def test_where_the_machine_computes_otherwise_the_last_line_says_so_and_how_to_go_back(
    committed, tmp_path
):
    clone = fresh_clone(committed, tmp_path)
    output = clone.python("tools.rebuild", TF_ENABLE_ONEDNN_OPTS="0")
    last = output.splitlines()[-1]
    assert re.match(
        r"\d+ of 15 outputs differ from the committed ones because of the machine or its packages",
        last,
    )
    assert "(settings.TF_ENABLE_ONEDNN_OPTS); the metrics agree within noise." in last
    command = re.search("`(git checkout .*?)`", last)[1]
    assert clone.run("git", "status", "--porcelain") != ""
    clone.run(*command.split())
    assert clone.run("git", "status", "--porcelain") == ""


def test_metrics_beyond_noise_are_named(committed, tmp_path):
    clone = fresh_clone(committed, tmp_path)
    path = clone.folder / "metrics/experiments.csv"
    table = pd.read_csv(path)
    table.assign(accuracy=table["accuracy"] - 5).to_csv(path, index=False)
    clone.commit("A claim")
    last = clone.python("tools.rebuild", TF_ENABLE_ONEDNN_OPTS="0").splitlines()[-1]
    assert "these metrics do not agree within noise: accuracy of short: -" in last


def test_bytes_that_differ_in_the_recorded_environment_are_no_matter_of_the_machine(
    committed, tmp_path
):
    clone = fresh_clone(committed, tmp_path)
    lock = clone.read("dvc.lock").decode()
    md5 = next(
        out["md5"]
        for out in yaml.safe_load(lock)["stages"]["plot"]["outs"]
        if "loss" in out["path"]
    )
    (clone.folder / "dvc.lock").write_text(lock.replace(md5, "f" * 32))
    clone.commit("A claim")
    last = clone.python("tools.rebuild").splitlines()[-1]
    assert (
        last.startswith("1 of 15 outputs differ")
        and "every byte should be equal: `make verify` shows which" in last
    )


def test_results_of_changed_params_are_not_laid_to_the_machine(committed, tmp_path):
    copy = committed.copy(tmp_path / "copy")
    copy.set("seed=43")
    assert MARK not in copy.python("tools.rebuild")


def test_results_of_code_that_was_committed_without_them_are_not_laid_to_the_machine(
    committed, tmp_path
):
    copy = committed.copy(tmp_path / "copy")
    path = copy.folder / "stages/train.py"
    path.write_text(
        path.read_text().replace('"epoch": kept["epoch"]', '"marked": 1, "epoch": kept["epoch"]')
    )
    copy.commit("Code alone")
    assert MARK not in copy.python("tools.rebuild")


def test_without_noise_it_is_said_that_nobody_knows(committed, tmp_path):
    clone = fresh_clone(committed, tmp_path)
    shutil.rmtree(clone.folder / "metrics")
    clone.run("git", "checkout", "metrics")
    (clone.folder / "metrics/noise.json").unlink()
    clone.commit("No noise")
    assert (
        "why, is not known"
        in clone.python("tools.rebuild", TF_ENABLE_ONEDNN_OPTS="0").splitlines()[-1]
    )
