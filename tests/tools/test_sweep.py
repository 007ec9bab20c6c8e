import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest

SWEEP = """sweep={
  name: small, metric: val_accuracy, trials: 4, seed: 1, sampler: tpe, prune: false, fixed: {train.epochs: 2},
  space: {
    train.learning_rate: {low: 0.0001, high: 0.1, log: true}, train.batch_size: {choices: [32, 64]},
    model.dropout: {low: 0.0, high: 0.5},
  },
}"""


def kept(repository) -> list[str]:
    references = repository.run("git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps").split()
    return sorted(name for name in references if name.startswith("sweep-"))


def table(repository) -> pd.DataFrame:
    return pd.read_csv(repository.folder / "metrics/sweep-small.csv").set_index("trial").sort_index()


def with_sweep(repository, *changes: str):
    repository.stub_training()
    repository.set_params(SWEEP, *changes)
    repository.commit("A small sweep")
    return repository


@pytest.fixture(scope="module")
def swept(built, tmp_path_factory):
    """A repository whose sweep of four trials has run, one at a time, and what that printed."""
    from bench.repository import Repository

    repository = with_sweep(Repository(built).copy(tmp_path_factory.mktemp("swept") / "project"))
    return repository, repository.python("tools.sweep", "--jobs", "1")


def test_each_trial_is_an_experiment_with_the_value_that_the_table_has(swept):
    repository, output = swept
    names = [f"sweep-small-{i:03d}" for i in range(4)]
    assert kept(repository) == names == list(table(repository).index)
    shown = pd.read_csv(repository.folder / "metrics/sweep-small.csv")
    assert shown["val_accuracy"].is_monotonic_decreasing and shown["train.learning_rate"].between(0.0001, 0.1).all()
    best = shown.iloc[0]
    assert f"val_accuracy: {best['val_accuracy']:.5f}".rstrip("0") in repository.run(
        "git", "show", f"{revision(repository, best['trial'])}:metrics/train.json"
    ).replace('"', "")
    assert "4 run to the end, 0 ended early, 0 failed" in output and "explains" in output
    assert (repository.folder / "plots/sweep-small.png").read_bytes().startswith(b"\x89PNG")


def revision(repository, name: str) -> str:
    lines = repository.run("git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps").splitlines()
    return next(line.split()[0] for line in lines if line.endswith(f" {name}"))


def test_a_second_call_runs_nothing(swept):
    repository, _ = swept
    before = repository.results()
    output = repository.python("tools.sweep")
    assert "epoch 1/" not in output and "4 run to the end" in output and repository.results() == before


def test_one_that_is_killed_goes_on_with_the_same_trials(swept, built, tmp_path):
    from bench.repository import Repository

    repository = with_sweep(Repository(built).copy(tmp_path / "project"))
    words = [sys.executable, "-m", "tools.sweep", "--jobs", "1"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        words, cwd=repository.folder, env=repository.environment(), stdout=log, start_new_session=True
    )
    while "sweep-small-001: epoch" not in (tmp_path / "log").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    victims = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    output = repository.python("tools.sweep", "--jobs", "1")
    assert "sweep-small-000: " not in output and "sweep-small-001: epoch 1/2" in output
    pd.testing.assert_frame_equal(table(repository), table(swept[0]))


def test_the_best_params_are_written_and_the_comments_stay(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    repository.python("tools.sweep", "--apply")
    best = pd.read_csv(repository.folder / "metrics/sweep-small.csv").iloc[0]
    assert repository.dvc("repro", "train") and repository.dvc("status", "train")
    text = repository.read("params.yaml").decode()
    assert f"dropout: {best['model.dropout']}" in text and "epochs: 2\n" in text


def test_a_hopeless_trial_is_ended_early(repository):
    with_sweep(
        repository,
        "sweep.prune=true",
        "sweep.trials=8",
        "sweep.fixed={train.epochs: 20}",
        "sweep.space={train.learning_rate: {choices: [0.001, 0.0000001]}}",
        "sweep.sampler=random",
    )
    output = repository.python("tools.sweep", "--jobs", "2")
    states = table(repository).groupby("train.learning_rate")["state"].agg(set)
    assert "pruned" in states[1e-7] and states[0.001] == {"complete"}, output
    assert len(kept(repository)) == (table(repository)["state"] == "complete").sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sweep.space={train.epoch: {choices: [1]}}", "train.epoch is not a known param"),
        ("sweep.space={train.epochs: {choices: [1, 0]}}", "train.epochs is 0"),
        ("sweep.space={model.dropout: {low: 0.0, high: 1.5}}", "model.dropout is 1.5"),
        (
            "sweep.space={model.dropout: {low: 0.5, high: 0.1}}",
            "model.dropout: it needs choices, or a low and a higher high",
        ),
        ("sweep.space={model.dropout: {low: 0.0, high: 0.5, log: true}}", "low must be greater than 0"),
        ("sweep.space={}", "sweep.space is {}"),
        ("sweep.metric=accuracy", "sweep.metric is 'accuracy'. Input should be 'val_accuracy' or 'val_loss'"),
        ("sweep.trials=0", "sweep.trials is 0"),
        ("sweep.name=a b", "sweep.name is 'a b'"),
    ],
)
def test_what_can_not_be_searched_is_refused_before_anything_starts(repository, change, message):
    repository.set_params(SWEEP, change)
    output = repository.python("tools.sweep", status=1)
    assert output.startswith("sweep: ") and message in output and "Traceback" not in output
    assert kept(repository) == []


@pytest.mark.parametrize(
    ("change", "what"), [("seed=43", "other params"), ("sweep.seed=2", "other sweep"), ("sweep.prune=true", "other sweep")]
)
def test_trials_of_other_params_are_not_mixed(swept, tmp_path, change, what):
    repository = swept[0].copy(tmp_path / "project")
    repository.set_params(change)
    output = repository.python("tools.sweep", status=1)
    assert what in output and "Give another name" in output


def test_without_the_section_it_says_so(repository):
    repository.set_params("sweep=null")
    assert "has no section sweep" in repository.python("tools.sweep", status=1)
