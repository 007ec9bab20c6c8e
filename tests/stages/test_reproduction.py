"""Test that equal inputs give equal bytes, and that a broken run is repaired by the next."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest

from tests.support.repository import PROJECT
from tools.process import user_env


@pytest.mark.slow
def test_the_cnn_gives_equal_bytes_on_any_number_of_cores(repository):
    repository.set("model.name=cnn", "model.filters=[4]", "train.epochs=1")
    paths, results = ("models/model.keras", "plots/history.csv", "metrics/train.json"), []
    for cores in ("0", "0,1"):
        printed = repository.stages("train", cores=cores)
        assert printed.startswith("epoch 1/1 ") and printed.count("\n") == 1  # no TensorFlow notes
        results.append([repository.read(path) for path in paths])
    assert results[0] == results[1]
    with zipfile.ZipFile(io.BytesIO(results[0][0])) as archive:
        assert json.loads(archive.read("config.json"))["config"]["name"] == "cnn"


def test_a_killed_run_and_corrupted_outputs_are_repaired_by_the_next_run(toy):
    toy.slow_training(0.2)
    toy.dvc("repro")
    before = toy.results()
    shutil.rmtree(toy.folder / ".dvc/cache")
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force"],
        cwd=toy.folder,
        env=user_env(),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process.stdout as lines:
        assert any(b"epoch 1/" in line for line in lines)  # DVC has removed the old model
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (toy.folder / "models/model.keras").exists()
    for path in ("data/prepared/train_images.npy", "metrics/test.json"):
        content = toy.read(path)
        (toy.folder / path).unlink()
        (toy.folder / path).write_bytes(content[:-1])
    (toy.folder / "plots/loss.png").unlink()
    toy.dvc("repro")
    assert toy.results() == before


def test_make_keeps_no_compiled_module_since_a_full_disk_would_leave_half_of_one():
    text = (PROJECT / "Makefile").read_text()
    assert re.findall(r"^RUN := (.*)#", text, re.MULTILINE) == ["$(BIN)/python -BEs -m"]
    assert set(re.findall(r"\t(\S+ -?\S*) ?(?:-m )?(?:tools|bench)\.", text)) == {"$(RUN) "}


def test_dvc_plots_shows_each_plot_once_and_the_curves_first(repository):
    repository.dvc("plots", "show", "--out", "page")
    page = (repository.folder / "page/index.html").read_text()
    images = re.findall(r'<img src="static/workspace_plots_(\w+)\.png"', page)
    assert sorted(images) == sorted(
        ["loss", "accuracy", "confusion_matrix", "samples", "predictions", "mistakes"]
    )
    charts = re.findall(r"vegaEmbed\('#(?:dvc_yaml__)?(\w+)'", page)
    assert charts[:2] == ["loss", "accuracy"]
    # of history.csv, the validation loss alone
    tables = ["metrics_per_class_csv", "plots_history_csv", "plots_predictions_csv"]
    assert sorted(charts[2:]) == tables
