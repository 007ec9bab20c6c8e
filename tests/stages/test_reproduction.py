"""Same in, same out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

from tests.support.repository import PROJECT, Repository
from tools.dvc import dvc_env


def test_training_again_gives_equal_bytes_on_any_number_of_cores_and_another_seed_others(
    repository,
):
    """Batches of 100 leave rows over when they are shared out among threads."""
    repository.set("train.batch_size=100")

    def train_and_evaluate(cores: str, threads: str, **variables: str) -> dict[str, bytes]:
        for path in ("models/model.keras", "metrics/test.json", "plots/predictions.csv"):
            (repository.folder / path).unlink()
        variables |= {"TF_NUM_INTEROP_THREADS": threads, "OMP_NUM_THREADS": threads}
        printed = repository.stages("train", "evaluate", cores=cores, **variables).splitlines()
        # and nothing of TensorFlow's own
        assert [line.split()[:2] for line in printed] == [["epoch", "1/2"], ["epoch", "2/2"]]
        return repository.results()

    first = train_and_evaluate("0,1", "2")
    # portable by the user's choice
    assert train_and_evaluate("0", "4", TF_ENABLE_ONEDNN_OPTS="1") == first
    repository.set("seed=43")
    assert train_and_evaluate("0,1", "2")["models/model.keras"] != first["models/model.keras"]


def test_a_clone_on_another_machine_makes_equal_bytes_and_its_workspace_stays_clean(
    repository, tmp_path
):
    record = repository.folder / "metrics/environment.json"
    elsewhere = json.loads(record.read_text()) | {"cpu": "another", "instruction_set": ["X86_V3"]}
    record.write_text(json.dumps(elsewhere, indent=2) + "\n")
    repository.commit("As if made elsewhere")
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
        env=dvc_env(),
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
    rule = 'asked: ; @python3 -c "import sys; print(sys.dont_write_bytecode)"'
    words = ["make", "--no-print-directory", "--eval", rule, "asked"]
    assert Repository(PROJECT).run(*words, PYTHONDONTWRITEBYTECODE="") == "True\n"


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
