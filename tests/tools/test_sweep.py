import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest

from tools.experiments.config import Sweep
from tools.experiments.study import trial_params

pytestmark = pytest.mark.xdist_group(__name__)  # so that what they share is made once

SWEEP = """sweeps={small: {
  metric: val_accuracy, trials: 4, jobs: 1, seed: 1, sampler: tpe, prune: false, \
fixed: {train.epochs: 2},
  space: {
    train.learning_rate: {low: 0.0001, high: 0.1, log: true}, train.batch_size: {choices: [32, 64]},
    model.dropout: {low: 0.0, high: 0.5},
  },
}}"""


def kept(repository) -> list[str]:
    references = repository.run(
        "git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps"
    ).split()
    return sorted(name for name in references if name.startswith("sweep-"))


def table(repository) -> pd.DataFrame:
    return (
        pd.read_csv(repository.folder / "metrics/sweep-small.csv").set_index("trial").sort_index()
    )


def with_sweep(repository, *changes: str):
    repository.stub_training()
    repository.set(SWEEP, *changes)
    repository.commit("A small sweep")
    return repository


@pytest.fixture(scope="module")
def swept(built, tmp_path_factory):
    """A repository whose sweep of four trials has run, one at a time, and what that printed."""
    from tests.support.repository import Repository

    repository = with_sweep(Repository(built).copy(tmp_path_factory.mktemp("swept") / "project"))
    return repository, repository.python("tools.experiments.sweep")


def test_each_trial_is_an_experiment_with_the_value_that_the_table_has(swept):
    repository, output = swept
    names = [f"sweep-small-{i:03d}" for i in range(4)]
    assert kept(repository) == names == list(table(repository).index)
    shown = pd.read_csv(repository.folder / "metrics/sweep-small.csv")
    assert (
        shown["val_accuracy"].is_monotonic_decreasing
        and shown["train.learning_rate"].between(0.0001, 0.1).all()
    )
    best = shown.iloc[0]
    assert f"val_accuracy: {best['val_accuracy']:.5f}".rstrip("0") in repository.run(
        "git", "show", f"{revision(repository, best['trial'])}:metrics/train.json"
    ).replace('"', "")
    assert "4 completed, 0 pruned, 0 failed" in output and "explains" in output
    assert (repository.folder / "plots/sweep-small.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_shows_it(swept):
    repository, _ = swept
    repository.python("tools.report", "sweep-small-000", "sweep-small-001")
    page = repository.read("report.html").decode()
    assert "<h2>Sweep small</h2>" in page and "<td>sweep-small-003</td>" in page


def revision(repository, name: str) -> str:
    lines = repository.run(
        "git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps"
    ).splitlines()
    return next(line.split()[0] for line in lines if line.endswith(f" {name}"))


def test_a_second_call_runs_nothing(swept):
    repository, _ = swept
    before = repository.results()
    output = repository.python("tools.experiments.sweep")
    assert "epoch 1/" not in output and "4 completed" in output and repository.results() == before


def test_one_that_is_killed_goes_on_with_the_same_trials(swept, built, tmp_path):
    from tests.support.repository import Repository

    repository = with_sweep(Repository(built).copy(tmp_path / "project"))
    words = [sys.executable, "-m", "tools.experiments.sweep"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        words,
        cwd=repository.folder,
        env=repository.env(),
        stdout=log,
        start_new_session=True,
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
    output = repository.python("tools.experiments.sweep")
    assert "sweep-small-000: " not in output and "sweep-small-001: epoch 1/2" in output
    pd.testing.assert_frame_equal(table(repository), table(swept[0]))


def test_fractions_have_four_digits_and_stay_within_their_range():
    ranges = {"a": {"low": 0.0003, "high": 0.01}, "b": {"low": 0.0, "high": 0.99999}}
    space = ranges | {"c": {"choices": [0.123456]}, "d": {"low": 1, "high": 9}}
    sweep = Sweep(metric="val_loss", trials=1, seed=1, sampler="tpe", prune=False, space=space)
    proposed = {"a": 0.00031415926, "b": 0.999989, "c": 0.123456, "d": 3}
    assert trial_params(proposed, sweep) == {"a": 0.0003142, "b": 0.99999, "c": 0.123456, "d": 3}


def test_the_best_params_are_written_and_the_comments_stay(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    repository.commit("The results of the sweep")  # its experiments are those of the commit before
    repository.python("tools.experiments.sweep", "--apply")
    best = pd.read_csv(repository.folder / "metrics/sweep-small.csv").iloc[0]
    assert repository.dvc("repro", "train") and repository.dvc("status", "train")
    text = repository.read("params.yaml").decode()
    assert f"dropout: {best['model.dropout']}" in text and "epochs: 2\n" in text


def test_a_hopeless_trial_is_pruned(repository):
    with_sweep(
        repository,
        "sweeps.small.prune=true",
        "sweeps.small.trials=8",
        "sweeps.small.jobs=2",
        "sweeps.small.sampler=random",
        "sweeps.small.fixed={train.epochs: 9}",
        "sweeps.small.space={train.learning_rate: {choices: [0.001, 0.0000001]},"
        " seed: {low: 0, high: 1000}}",
    )
    output = repository.python("tools.experiments.sweep")
    trials = table(repository)
    pruned = trials[trials["state"] == "pruned"]
    # trials are ended from a third on, not after the last
    assert len(pruned) and pruned["epochs"].between(3, 8).all(), output
    assert set(pruned["train.learning_rate"]) == {1e-7} and f"{len(pruned)} pruned" in output
    assert kept(repository) == list(trials.index[trials["state"] == "complete"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sweeps.small.space={train.epoch: {choices: [1]}}", "train.epoch is not a known param"),
        ("sweeps.small.space={train.epochs: {choices: [1, 0]}}", "train.epochs is 0"),
        ("sweeps.small.space={model.dropout: {low: 0.0, high: 1.5}}", "model.dropout is 1.5"),
        (
            "sweeps.small.space={model.dropout: {low: 0.5, high: 0.1}}",
            "model.dropout: it needs choices, or a low and a higher high",
        ),
        (
            "sweeps.small.space={model.dropout: {low: 0.0, high: 0.5, log: true}}",
            "low must be greater than 0",
        ),
        ("sweeps.small.space={}", "sweeps.small.space is {}"),
        (
            "sweeps.small.metric=accuracy",
            "sweeps.small.metric is 'accuracy'. Input should be 'val_accuracy' or 'val_loss'",
        ),
        ("sweeps.small.trials=0", "sweeps.small.trials is 0"),
        (
            "sweeps.small.space={model.hidden_units: {choices: [[9]]}}",
            "sweeps.small.space.model.hidden_units.choices.0",
        ),
        ("sweeps={}", "there is no sweep at all in experiments.yaml: sweeps. There are: none"),
        ("sweeps={a b: {}}", "sweeps.a b"),
    ],
)
def test_what_can_not_be_searched_is_refused_before_anything_starts(repository, change, message):
    repository.set(SWEEP, change)
    output = repository.python("tools.experiments.sweep", status=1)
    assert output.startswith("sweep: ") and message in output and "Traceback" not in output
    assert kept(repository) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("seed=43", "other params"),
        ("sweeps.small.seed=2", "other sweep"),
        ("sweeps.small.prune=true", "other sweep"),
    ],
)
def test_trials_of_other_params_are_not_mixed(swept, tmp_path, change, what):
    repository = swept[0].copy(tmp_path / "project")
    repository.set(change)
    output = repository.python("tools.experiments.sweep", status=1)
    assert what in output and "Give it another name" in output


def test_a_sweep_that_is_not_there_is_told(repository):
    repository.set(SWEEP)
    output = repository.python("tools.experiments.sweep", "--name", "large", status=1)
    assert (
        output == "sweep: there is no sweep large in experiments.yaml: sweeps. There are: small\n"
    )


def test_sweeps_are_compared_by_their_best_trials(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    definition = SWEEP.removeprefix("sweeps={small: ").removesuffix("}")
    repository.set(
        f"sweeps.another={definition}", "sweeps.another.sampler=random", "sweeps.another.trials=1"
    )
    repository.python("tools.experiments.sweep", "--name", "another")
    rows = pd.read_csv(repository.folder / "metrics/sweeps.csv").set_index("sweep")
    assert list(rows.index) == ["another", "small"] and rows["trials"].tolist() == [1, 4]
    assert rows["epochs"].tolist() == [2, 8] and rows["pruned"].tolist() == [0, 0]
    assert (
        rows["best_trial"]["small"]
        == pd.read_csv(repository.folder / "metrics/sweep-small.csv")["trial"][0]
    )
