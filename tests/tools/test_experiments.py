import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from tools.dvc import subprocess_env

PROJECT = Path(__file__).parents[2]

LONG = [
    "experiments={first: {train.epochs: 3000}, second: {train.epochs: 1}, third: {train.epochs: 2}}"
]


def references(repository) -> str:
    return repository.run("git", "for-each-ref")


def kept(repository) -> set[str]:
    return {
        line.rsplit("/", 1)[1]
        for line in references(repository).splitlines()
        if "refs/exps/" in line
    }


def revision(repository, name: str) -> str:
    return next(
        line.split()[0] for line in references(repository).splitlines() if line.endswith(f"/{name}")
    )


def clones(repository) -> list:
    return list((repository.folder / ".dvc/tmp/experiments").glob("clone-*"))


def processes(repository) -> list[psutil.Process]:
    """All processes that work in the repository."""
    everyone = psutil.process_iter(["cwd"])
    return [
        process
        for process in everyone
        if (process.info["cwd"] or "").startswith(str(repository.folder))
    ]


@pytest.fixture
def done(compared, tmp_path):
    """Make a repository whose two small experiments have run.

    What that printed is in its folder's neighbour, `output`.
    """
    return compared(tmp_path)


@pytest.fixture
def running(request, repository):
    """Put `experiments` to work, the first of them in training.

    It would go on for minutes. By default a stub trains.
    """
    if getattr(request, "param", "stub") == "stub":
        repository.stub_training(seconds=0.1)
        repository.dvc("repro")
    repository.set(*LONG)
    repository.commit("A long experiment")
    before = references(repository), repository.results()
    log = (repository.folder.parent / "output").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.experiments", "--jobs", "2"],
        cwd=repository.folder, env=subprocess_env(), stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while "first: epoch" not in (repository.folder.parent / "output").read_text():
        assert process.poll() is None and time.monotonic() < deadline, (
            repository.folder.parent / "output"
        ).read_text()
        time.sleep(0.1)
    yield process, before
    process.kill()
    process.wait()
    for victim in processes(repository):
        victim.kill()


def test_each_becomes_an_experiment_with_the_same_bytes_as_by_hand(done):
    assert kept(done) == {"short", "longer"}
    table = pd.read_csv(done.folder / "metrics/experiments.csv")
    assert table["experiment"].tolist() == ["short", "longer"]
    # 1,000 training images in batches of 32 and of 64
    assert table["steps"].tolist() == [32, 3 * 16]
    longer = revision(done, "longer")
    by_git = {
        path: done.run("git", "show", f"{longer}:{path}")
        for path in ("dvc.lock", "metrics/test.json")
    }
    done.dvc("exp", "run", "-S", "train.epochs=3", "-S", "train.batch_size=64", "--force")
    assert {path: done.read(path).decode() for path in by_git} == by_git


def test_data_is_not_made_again_for_an_experiment(done):
    output = (done.folder.parent / "output").read_text()
    assert "longer: train" in output and "fetch" in output
    assert (
        "Running stage" not in output
        and "longer: fetch" not in output
        and "longer: prepare" not in output
    )


def test_a_second_call_runs_nothing_and_changes_nothing(done):
    before, results = references(done), done.results()
    output = done.python("tools.experiments")
    assert (
        "short: up to date" in output
        and "longer: up to date" in output
        and "epoch 1/" not in output
    )
    assert references(done) == before and done.results() == results


def test_a_changed_experiment_runs_again_and_the_others_do_not(done):
    before = revision(done, "short"), revision(done, "longer")
    done.set(
        "experiments={short: {train.epochs: 1}, longer: {train.epochs: 2, train.batch_size: 64}}"
    )
    output = done.python("tools.experiments")
    assert "short: up to date" in output and "longer: epoch 2/2" in output
    assert revision(done, "short") == before[0] and revision(done, "longer") != before[1]


def test_only_the_chosen_ones_run_and_the_table_stays(done):
    before = done.results()
    done.set("experiments={short: {train.epochs: 1}, other: {train.epochs: 1, seed: 7}}")
    output = done.python("tools.experiments", "--only", "other")
    assert (
        "other: train" in output
        and "short:" not in output
        and "| other" in re.sub(" +", " ", output)
    )
    assert done.results() == before


def test_seeds_make_further_experiments_and_a_table_of_their_spread(done):
    output = done.python("tools.experiments", "--seeds", "2")
    assert kept(done) == {"short", "short-seed-43", "longer", "longer-seed-43"}
    table = pd.read_csv(done.folder / "metrics/seeds.csv")
    assert table["experiment"].tolist() == ["short", "short", "longer", "longer"]
    assert table["seed"].tolist() == [42, 43, 42, 43]
    accuracies = table.loc[table["experiment"] == "short", "accuracy"]
    spread = abs(accuracies.iloc[0] - accuracies.iloc[1]) / 2**0.5
    assert f"{accuracies.mean():.4f} ± {spread:.4f}" in output
    assert len(pd.read_csv(done.folder / "metrics/experiments.csv")) == 2


def test_a_group_has_a_table_a_picture_and_seeds_of_its_own(done):
    done.stub_training()
    done.dvc("repro")
    done.set(
        "groups={pair: {short: {train.epochs: 1}, dropped: {train.epochs: 1, model.dropout: 0.2}}}"
    )
    done.commit("A group")
    before = (done.folder / "metrics/experiments.csv").read_bytes()
    output = done.python("tools.experiments", "--group", "pair", "--seeds", "2")
    assert kept(done) >= {"short", "short-seed-43", "dropped", "dropped-seed-43"}
    assert pd.read_csv(done.folder / "metrics/experiments-pair.csv")["experiment"].tolist() == [
        "short",
        "dropped",
    ]
    seeds = pd.read_csv(done.folder / "metrics/seeds-pair.csv")
    assert seeds[["experiment", "seed"]].values.tolist() == [
        ["short", 42],
        ["short", 43],
        ["dropped", 42],
        ["dropped", 43],
    ]
    assert "Table: metrics/experiments-pair.csv, picture: plots/experiments-pair.png" in output
    assert (done.folder / "plots/experiments-pair.png").read_bytes().startswith(b"\x89PNG")
    assert (done.folder / "metrics/experiments.csv").read_bytes() == before


def test_the_other_arithmetic_runs_them_again_and_is_told(done):
    done.stub_training()
    done.dvc("repro")
    done.commit("A stub")
    portable = done.python("tools.experiments")
    native = done.python("tools.experiments", ONEDNN_MAX_CPU_ISA="DEFAULT")
    assert (
        "arithmetic" not in portable
        and "short: train" in native
        and "short: up to date" not in native
    )
    assert "native arithmetic (ONEDNN_MAX_CPU_ISA=DEFAULT)" in native.splitlines()[-4]
    assert "short: up to date" in done.python("tools.experiments", ONEDNN_MAX_CPU_ISA="DEFAULT")
    assert "arithmetic" not in done.python("tools.experiments")  # whatever DVC's run cache has
    assert "arithmetic" not in done.read("metrics/experiments.csv").decode()


@pytest.mark.parametrize(
    ("params", "arguments", "message"),
    [
        (
            [],
            ["--only", "run-9"],
            "no experiment run-9 in experiments.yaml. There are: run-1, run-2, run-3",
        ),
        (
            [],
            ["--group", "m"],
            "no group m in experiments.yaml: groups. There are: models, ablation",
        ),
        (
            ["experiments={a: {train.epoch: 1}}"],
            [],
            "experiments.yaml: a: train.epoch is not a known param",
        ),
        (
            ["experiments={a: {trian.epochs: 1}}"],
            [],
            "experiments.yaml: a: trian.epochs is not a known param",
        ),
        (
            ["experiments={a: {train.epochs: many}}"],
            [],
            "experiments.yaml: a: train.epochs is 'many'",
        ),
        (["experiments={'a b': {train.epochs: 1}}"], [], "experiments.a b"),
        (["experiments=[run-1]"], [], "experiments is ['run-1']"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_starts(
    repository, params, arguments, message
):
    repository.set(*params)
    before = references(repository)
    output = repository.python("tools.experiments", *arguments, status=1)
    assert output.startswith("experiments: ") and message in output and "Traceback" not in output
    assert references(repository) == before


@pytest.mark.parametrize(
    "arguments", [["--jobs", "0"], ["--jobs", "x"], ["--seeds", "-1"], ["--what"]]
)
def test_wrong_usage_has_status_2(repository, arguments):
    assert "usage:" in repository.python("tools.experiments", *arguments, status=2)


def test_one_that_fails_is_told_with_its_log_and_leaves_the_others_running(repository):
    repository.stub_training()
    repository.set("experiments={bad: {prepare.validation_size: 1200}, good: {train.epochs: 1}}")
    repository.commit()
    output = repository.python("tools.experiments", status=1)
    assert (
        "bad failed. Its last lines:" in output
        and "prepare.validation_size: 1200 of 1200" in output
    )
    log = repository.folder / re.search(r"The whole log: (\S+)", output)[1]
    assert "1200 of 1200" in log.read_text() and "Traceback" not in output
    assert kept(repository) == {"good"} and clones(repository) == []


def test_a_killed_training_fails_alone_and_the_next_call_repairs_it(repository, running):
    process, _ = running
    training = [victim for victim in processes(repository) if "stages.train" in victim.cmdline()]
    first = min(training, key=lambda victim: victim.create_time())
    first.kill()
    assert process.wait(120) == 1
    output = (repository.folder.parent / "output").read_text()
    assert "first failed" in output and kept(repository) == {"second", "third"}
    assert clones(repository) == [] and processes(repository) == []
    repository.set(
        "experiments={first: {train.epochs: 3}, second: {train.epochs: 1},"
        " third: {train.epochs: 2}}"
    )
    output = repository.python("tools.experiments")
    assert kept(repository) == {"first", "second", "third"} and "second: up to date" in output


@pytest.mark.parametrize(
    ("running", "number"),
    [("training", signal.SIGINT), ("stub", signal.SIGTERM)],
    indirect=["running"],
)
def test_stopping_it_stops_all_and_leaves_no_trace(repository, running, number):
    process, (references_before, results_before) = running
    process.send_signal(number)
    assert process.wait(120) == 1
    assert "Traceback" not in (repository.folder.parent / "output").read_text()
    assert processes(repository) == [] and clones(repository) == []
    assert not (repository.folder / ".dvc/tmp/experiments.lock").exists()
    assert kept(repository) <= {"second", "third"}  # whatever had ended by then
    assert (
        repository.results() == results_before
        and repository.run("git", "status", "--porcelain") == ""
    )
    assert references_before.splitlines()[-1] in references(repository)


def test_one_that_was_killed_leaves_a_clone_which_the_next_call_removes(repository, running):
    process, _ = running
    inside = [Path(one.cwd()) for one in psutil.Process(process.pid).children(recursive=True)]
    # DVC never works in the project
    assert inside and all(path.is_relative_to(clones(repository)[0]) for path in inside)
    assert (
        "already running" in repository.python("tools.experiments", status=1)
        and process.poll() is None
    )
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for victim in processes(repository):
        victim.kill()
    assert clones(repository) != []
    repository.set("experiments={short: {train.epochs: 1}}")
    repository.python("tools.experiments")
    assert "short" in kept(repository) and clones(repository) == []


def test_changes_that_are_not_committed_are_told_and_used(done):
    path = done.folder / "stages/train.py"
    path.write_text(
        path.read_text().replace('"epoch": kept["epoch"]', '"marked": 1, "epoch": kept["epoch"]')
    )
    output = done.python("tools.experiments", "--only", "short")
    assert "Not committed: stages/train.py" in output
    assert '"marked": 1' in done.run("git", "show", f"{revision(done, 'short')}:metrics/train.json")


def test_a_commit_while_they_run_is_not_in_the_way(repository):
    repository.stub_training()
    repository.set("experiments={short: {train.epochs: 1}}")
    repository.run("git", "config", "diff.noprefix", "true")  # nor is what users configure
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.experiments"],
        cwd=repository.folder,
        env=subprocess_env(),
        stdout=subprocess.DEVNULL,
    )
    while not any(
        log.stat().st_size for log in (repository.folder / ".dvc/tmp/experiments").glob("short.log")
    ):
        assert process.poll() is None
        time.sleep(0.05)
    before = repository.run("git", "rev-parse", "HEAD").strip()
    repository.commit("Meanwhile")
    assert process.wait(120) == 0
    assert f"refs/exps/{before[:2]}/{before[2:]}/short" in references(repository)
    assert (repository.folder / "metrics/experiments.csv").read_text().count("short") == 1


def test_the_longest_is_started_first(compared, tmp_path):
    repository = compared(tmp_path)
    lines = (repository.folder.parent / "output").read_text().splitlines()
    begun = [
        line.split(":")[0]
        for line in lines
        if line.endswith((": train", ": starting", "epoch 1/3", "epoch 1/1"))
    ]
    assert begun[0] == "longer"


def test_code_that_git_does_not_track_is_refused(repository):
    (repository.folder / "fashion/new.py").write_text("")
    assert "does not track fashion/new.py" in repository.python("tools.experiments", status=1)


def test_without_a_commit_it_says_so(repository):
    shutil.rmtree(repository.folder / ".git")
    repository.run("git", "init", "--quiet")
    assert "there is no commit yet" in repository.python("tools.experiments", status=1)


def test_the_committed_table_has_the_experiments_of_experiments_yaml():
    configured = yaml.safe_load((PROJECT / "experiments.yaml").read_text())["experiments"]
    table = pd.read_csv(PROJECT / "metrics/experiments.csv").set_index("experiment")
    for name, overrides in configured.items():
        for param, value in overrides.items():
            assert table.loc[name, param.split(".")[-1]] == value
    assert list(table.index) == list(configured)
