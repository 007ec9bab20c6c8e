"""Same in, same out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tools.dvc import subprocess_env


def test_a_second_repro_runs_nothing(repository):
    assert "Running stage" not in repository.dvc("repro")
    assert repository.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(("cores", "threads"), [("0", "1"), ("0,1", "2"), ("0", "4")])
def test_training_again_gives_equal_bytes_on_any_number_of_cores(repository, cores, threads):
    repository.set("train.batch_size=100")  # leaves rows over when it is shared out
    repository.dvc("repro")
    before = repository.results()
    settings = {"TF_NUM_INTEROP_THREADS": threads, "OMP_NUM_THREADS": threads}
    for stage in ("train", "evaluate"):
        repository.run(
            "taskset", "--cpu-list", cores, sys.executable, "-m", f"stages.{stage}", **settings
        )
    after = repository.results()
    assert {name for name in before if before[name] != after[name]} == set()
    assert before.keys() == after.keys()


def test_a_fresh_clone_without_cache_gives_equal_bytes(repository, tmp_path):
    clone = type(repository)(tmp_path / "clone")
    repository.run("git", "clone", "--quiet", ".", str(clone.folder))
    assert clone.dvc("repro").count("Running stage") == 3  # metrics and pictures come with Git
    assert clone.results() == repository.results()
    assert clone.dvc("repro", "--force").count("Running stage") == 5
    assert clone.results() == repository.results()


def test_equal_bytes_on_another_machine_leave_the_working_copy_clean(repository):
    record = repository.folder / "metrics/environment.json"
    elsewhere = json.loads(record.read_text()) | {"cpu": "another", "instruction_set": ["X86_V3"]}
    record.write_text(json.dumps(elsewhere, indent=2) + "\n")
    repository.commit("As if made elsewhere")
    assert repository.dvc("repro", "--force").count("Running stage") == 5
    assert repository.run("git", "status", "--porcelain") == ""


def test_another_seed_gives_another_model(repository):
    before = repository.read("models/model.keras")
    repository.set("seed=43")
    repository.dvc("repro", "train")
    assert repository.read("models/model.keras") != before


def test_a_killed_run_is_repaired_by_running_it_again(repository):
    before = repository.results()
    shutil.rmtree(repository.folder / ".dvc/cache")
    repro = [sys.executable, "-m", "dvc", "repro", "--force"]
    process = subprocess.Popen(
        repro,
        cwd=repository.folder,
        env=subprocess_env(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    history = repository.folder / "plots/history.csv"
    while process.poll() is None and not (
        history.exists() and history.read_bytes() != before["plots/history.csv"]
    ):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    repository.dvc("repro")
    assert repository.results() == before


def test_metrics_and_plots_of_dvc_work(repository):
    assert "macro_f1" in repository.dvc("metrics", "show")
    repository.dvc("exp", "run", "--name", "longer", "--set-param", "train.epochs=3")
    assert "accuracy" in repository.dvc("metrics", "diff", "HEAD")
    assert "longer" in repository.dvc("exp", "show")
    repository.dvc("plots", "show", "--out", "page")
    page = (repository.folder / "page/index.html").read_text()
    assert "Loss by epoch" in page and "plots_samples_png" in page
    assert [
        line.strip()
        for line in repository.dvc("dag").splitlines()
        if "|" in line and any(c.isalpha() for c in line)
    ]


def test_analytics_are_off(repository):
    assert repository.dvc("config", "core.analytics").strip() == "false"
