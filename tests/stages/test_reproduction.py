"""Same in, same out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support.repository import PROJECT, Repository
from tools.dvc import subprocess_env


def test_a_second_repro_runs_nothing(repository):
    assert "Running stage" not in repository.dvc("repro")
    assert repository.run("git", "status", "--porcelain") == ""


@pytest.fixture(scope="module")
def uneven(built, tmp_path_factory):
    """A built repository whose batches leave rows over when they are shared out among threads.

    It was trained on two cores, by two threads.
    """
    repository = Repository(built).copy(tmp_path_factory.mktemp("uneven") / "project")
    repository.set("train.batch_size=100")
    train_and_evaluate(repository, "0,1", "2")
    return repository


def train_and_evaluate(repository: Repository, cores: str, threads: str, **variables: str) -> None:
    """Do so on so many cores and with so many threads, and see that nothing else is printed.

    As TensorFlow would, as soon as it is imported.
    """
    variables |= {"TF_NUM_INTEROP_THREADS": threads, "OMP_NUM_THREADS": threads}
    printed = repository.stages("train", "evaluate", cores=cores, **variables).splitlines()
    assert [line.split()[:2] for line in printed] == [["epoch", "1/2"], ["epoch", "2/2"]]


@pytest.mark.xdist_group("uneven")  # so that it is built once
@pytest.mark.parametrize(
    ("cores", "threads", "variables"),
    [("0", "1", {}), ("0", "4", {"TF_ENABLE_ONEDNN_OPTS": "1"})],  # portable by the user's choice
)
def test_training_again_gives_equal_bytes_on_any_number_of_cores(uneven, cores, threads, variables):
    before = uneven.results()
    for path in ("models/model.keras", "metrics/test.json", "plots/predictions.csv"):
        (uneven.folder / path).unlink()
    train_and_evaluate(uneven, cores, threads, **variables)
    after = uneven.results()
    assert {name for name in before if before[name] != after[name]} == set()
    assert before.keys() == after.keys()


def test_a_clone_on_another_machine_makes_equal_bytes_and_its_working_copy_stays_clean(
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
    assert clone.run("git", "status", "--porcelain") == ""


def test_a_fresh_clone_makes_what_does_not_come_with_git(toy, tmp_path):
    clone = Repository(tmp_path / "clone")
    toy.run("git", "clone", "--quiet", ".", str(clone.folder))
    assert clone.dvc("repro").count("Running stage") == 2  # data and model
    assert clone.results() == toy.results()


def test_another_seed_gives_another_model(repository):
    before = repository.read("models/model.keras")
    repository.set("seed=43")
    repository.stages("train")
    assert repository.read("models/model.keras") != before


def test_a_killed_run_is_repaired_by_running_it_again(toy):
    toy.slow_training(0.2)
    toy.dvc("repro")
    before = toy.results()
    shutil.rmtree(toy.folder / ".dvc/cache")
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force"],
        cwd=toy.folder,
        env=subprocess_env(),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process.stdout as lines:
        assert any(b"epoch 1/" in line for line in lines)  # DVC has taken the old model away
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (toy.folder / "models/model.keras").exists()
    toy.dvc("repro")
    assert toy.results() == before


def test_make_keeps_no_compiled_module_since_a_full_disk_would_leave_half_of_one():
    rule = 'asked: ; @python3 -c "import sys; print(sys.dont_write_bytecode)"'
    words = ["make", "--no-print-directory", "--eval", rule, "asked"]
    assert Repository(PROJECT).run(*words, PYTHONDONTWRITEBYTECODE="") == "True\n"


def test_metrics_and_experiments_of_dvc_work(toy):
    assert "macro_f1" in toy.dvc("metrics", "show")
    toy.dvc("exp", "run", "--name", "longer", "--set-param", "train.epochs=3")
    assert "accuracy" in toy.dvc("metrics", "diff", "HEAD")
    assert "longer" in toy.dvc("exp", "show")


def test_dvc_plots_shows_each_picture_once_and_the_curves_first(repository):
    repository.dvc("plots", "show", "--out", "page")
    page = (repository.folder / "page/index.html").read_text()
    pictures = re.findall(r'<img src="static/workspace_plots_(\w+)\.png"', page)
    assert sorted(pictures) == sorted(
        ["loss", "accuracy", "confusion_matrix", "samples", "predictions", "mistakes"]
    )
    charts = list(re.finditer(r"vegaEmbed\('#(?:dvc_yaml__)?(\w+)'", page))
    assert [chart[1] for chart in charts[:2]] == ["loss", "accuracy"]
    assert sorted(chart[1] for chart in charts[2:]) == [
        "metrics_per_class_csv",
        "plots_history_csv",  # the validation loss alone
        "plots_predictions_csv",
    ]


def test_the_graph_of_dvc_has_every_stage(repository):
    drawn = repository.dvc("dag")
    assert all(
        f"| {stage} |" in drawn for stage in ("fetch", "prepare", "train", "evaluate", "plot")
    )


def test_analytics_are_off(repository):
    assert repository.dvc("config", "core.analytics").strip() == "false"
