"""Same in, same out."""

import os
import re
import shutil
import signal
import subprocess
import sys

from tests.support.repository import PROJECT, Repository
from tools.process import user_env


def test_training_again_gives_equal_bytes_on_any_number_of_cores_and_another_seed_others(
    repository,
):
    """Batches of 100 leave rows over when they are shared out among threads."""
    repository.set("train.batch_size=100")

    def train_and_evaluate(cores: str, threads: str) -> dict[str, bytes]:
        for path in ("models/model.keras", "metrics/test.json", "plots/predictions.csv"):
            (repository.folder / path).unlink()
        variables = {"ARITHMETIC_THREADS": threads}
        printed = repository.stages("train", "evaluate", cores=cores, **variables).splitlines()
        # and nothing of TensorFlow's own
        assert [line.split()[:2] for line in printed] == [["epoch", "1/2"], ["epoch", "2/2"]]
        return repository.results()

    first = train_and_evaluate("0,1", "2")
    assert train_and_evaluate("0", "4") == first
    repository.set("seed=43")
    assert train_and_evaluate("0,1", "2")["models/model.keras"] != first["models/model.keras"]


def test_a_clone_makes_equal_bytes_and_its_workspace_stays_clean(repository, tmp_path):
    clone = Repository(tmp_path / "clone")
    repository.run("git", "clone", "--quiet", ".", str(clone.folder))
    assert clone.dvc("repro", "--force").count("Running stage") == 6
    assert clone.results() == repository.results()
    assert "Running stage" not in clone.dvc("repro")
    assert clone.run("git", "status", "--porcelain") == ""


def test_a_fresh_clone_makes_what_does_not_come_with_git(toy, tmp_path):
    clone = Repository(tmp_path / "clone")
    toy.run("git", "clone", "--quiet", ".", str(clone.folder))
    assert clone.dvc("repro").count("Running stage") == 2  # data and model
    assert clone.results() == toy.results()


def test_a_killed_run_is_repaired_by_running_it_again(toy):
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
    toy.dvc("repro")
    assert toy.results() == before


def test_make_keeps_no_compiled_module_since_a_full_disk_would_leave_half_of_one():
    text = (PROJECT / "Makefile").read_text()
    assert re.findall(r"^RUN := (.*)#", text, re.MULTILINE) == ["$(BIN)/python -BEs -m"]
    assert set(re.findall(r"\t(\S+ -?\S*) ?(?:-m )?(?:tools|bench)\.", text)) == {"$(RUN) "}


def test_dvc_plots_shows_each_picture_once_and_the_curves_first(repository):
    repository.dvc("plots", "show", "--out", "page")
    page = (repository.folder / "page/index.html").read_text()
    pictures = re.findall(r'<img src="static/workspace_plots_(\w+)\.png"', page)
    assert sorted(pictures) == sorted(
        ["loss", "accuracy", "confusion_matrix", "samples", "predictions", "mistakes"]
    )
    charts = re.findall(r"vegaEmbed\('#(?:dvc_yaml__)?(\w+)'", page)
    assert charts[:2] == ["loss", "accuracy"]
    assert sorted(charts[2:]) == [
        "metrics_per_class_csv",
        "plots_history_csv",  # the validation loss alone
        "plots_predictions_csv",
    ]
