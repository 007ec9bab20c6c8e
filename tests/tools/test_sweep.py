import pandas as pd
import pytest

from fashion.core.strict_yaml import read_yaml
from tests.support.commands import begin, call, refusal
from tests.support.repository import Repository
from tools.experiments import sweep
from tools.report import __main__ as report

shares_swept = pytest.mark.xdist_group("swept")  # so that it is made once

SWEEP = """sweeps={small: {
  metric: val_accuracy, trials: 3, jobs: 1, seed: 1, sampler: tpe, prune: false, \
fixed: {train.epochs: 2},
  space: {
    train.learning_rate: {low: 0.0001, high: 0.1, log: true}, train.batch_size: {choices: [32, 64]},
    model.dropout: {low: 0.0, high: 0.5},
  },
}}"""
NAMES = [f"sweep-small-{i:03d}" for i in range(3)]


def kept(repository) -> list[str]:
    references = repository.run(
        "git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps"
    ).split()
    return sorted(name for name in references if name.startswith("sweep-"))


def table(repository) -> pd.DataFrame:
    return (
        pd.read_csv(repository.folder / "metrics/sweep-small.csv").set_index("trial").sort_index()
    )


def revision(repository, name: str) -> str:
    lines = repository.run(
        "git", "for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps"
    ).splitlines()
    return next(line.split()[0] for line in lines if line.endswith(f" {name}"))


@pytest.fixture(scope="module")
def swept(built_toy, tmp_path_factory) -> tuple[Repository, str]:
    """A repository whose sweep of three trials has run, one at a time, and what that printed."""
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("swept") / "project")
    toy.set(SWEEP)
    toy.commit("A small sweep")
    return toy, toy.python("tools.experiments.sweep")


@shares_swept
def test_each_trial_is_an_experiment_with_the_value_that_the_table_has(swept):
    repository, output = swept
    assert kept(repository) == NAMES == list(table(repository).index)
    shown = pd.read_csv(repository.folder / "metrics/sweep-small.csv")
    assert (
        shown["val_accuracy"].is_monotonic_decreasing
        and shown["train.learning_rate"].between(0.0001, 0.1).all()
    )
    best = shown.iloc[0]
    assert f"val_accuracy: {best['val_accuracy']:.5f}".rstrip("0") in repository.run(
        "git", "show", f"{revision(repository, best['trial'])}:metrics/train.json"
    ).replace('"', "")
    assert "3 completed, 0 pruned, 0 failed" in output and "explains" in output
    assert repository.read("plots/sweep-small.png").startswith(b"\x89PNG")


@shares_swept
def test_the_report_shows_it(swept):
    repository, _ = swept
    call(report.main, repository.folder, *NAMES[:2])
    page = repository.read("report.html").decode()
    assert "<h2>Sweep small</h2>" in page and f"<td>{NAMES[2]}</td>" in page


@shares_swept
def test_a_second_call_runs_nothing(swept):
    repository, _ = swept
    before = repository.results()
    output = call(sweep.main, repository.folder)
    assert "epoch 1/" not in output and "3 completed" in output and repository.results() == before


@shares_swept
def test_one_that_is_killed_goes_on_with_the_same_trials(swept, toy):
    toy.slow_training(0.3)  # so that it is killed in an epoch
    toy.set(SWEEP)
    toy.commit("A small sweep")
    with begin(toy, "tools.experiments.sweep") as command:
        command.wait_for_line(f"{NAMES[1]}: epoch")
        command.kill()
    assert kept(toy) == NAMES[:1]
    output = call(sweep.main, toy.folder)
    assert f"{NAMES[0]}: " not in output and f"{NAMES[1]}: epoch 1/2" in output
    assert kept(toy) == NAMES
    pd.testing.assert_frame_equal(table(toy), table(swept[0]))


@shares_swept
def test_the_best_params_are_written_and_the_comments_stay(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    path = repository.folder / "params.yaml"
    path.write_text(f"# every knob\n{path.read_text()}")
    repository.commit("The results of the sweep")  # its experiments are those of the commit before
    output = call(sweep.main, repository.folder, "--apply")
    assert "`dvc repro` makes its results" in output
    best = pd.read_csv(repository.folder / "metrics/sweep-small.csv").iloc[0]
    repository.dvc("repro", "train")
    assert "up to date" in repository.dvc("status", "train")
    params = read_yaml(path)
    for name in ("model.dropout", "train.learning_rate", "train.batch_size"):
        section, key = name.split(".")
        assert params[section][key] == best[name]
    assert params["train"]["epochs"] == 2 and path.read_text().startswith("# every knob\n")


def test_a_hopeless_trial_is_pruned(toy):
    toy.set(
        SWEEP,
        "sweeps.small.prune=true",
        "sweeps.small.trials=7",
        "sweeps.small.seed=2",  # by which a hopeless one comes after the five that are not judged
        "sweeps.small.jobs=2",
        "sweeps.small.sampler=random",
        "sweeps.small.fixed={train.epochs: 9}",
        "sweeps.small.space={train.learning_rate: {choices: [0.001, 0.0000001]},"
        " seed: {low: 0, high: 1000}}",
    )
    output = call(sweep.main, toy.folder)
    trials = table(toy)
    pruned = trials[trials["state"] == "pruned"]
    # trials are ended from a third on, not after the last
    assert len(pruned) and pruned["epochs"].between(3, 8).all(), output
    assert set(pruned["train.learning_rate"]) == {1e-7} and f"{len(pruned)} pruned" in output
    assert kept(toy) == list(trials.index[trials["state"] == "complete"])
    told = [line for line in output.splitlines() if line.endswith(": pruned")]
    assert sorted(told) == [f"{name}: pruned" for name in pruned.index]


@pytest.fixture(scope="module")
def never_run(built_toy, tmp_path_factory) -> Repository:
    """A repository for sweeps that are refused."""
    return Repository(built_toy).copy(tmp_path_factory.mktemp("never_run") / "project")


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
def test_what_can_not_be_searched_is_refused_before_anything_starts(never_run, change, message):
    never_run.set(SWEEP, change)
    assert message in refusal(sweep.main, never_run.folder)
    assert kept(never_run) == []


@shares_swept
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
    message = refusal(sweep.main, repository.folder)
    assert what in message and "Give it another name" in message


def test_a_sweep_that_is_not_there_is_told(never_run):
    never_run.set(SWEEP)
    output = never_run.python("tools.experiments.sweep", "--name", "large", status=1)
    assert (
        output == "sweep: there is no sweep large in experiments.yaml: sweeps. There are: small\n"
    )


@shares_swept
def test_sweeps_are_compared_by_their_best_trials(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    definition = SWEEP.removeprefix("sweeps={small: ").removesuffix("}")
    repository.set(
        f"sweeps={{small: {definition}, another: {definition}}}",
        "sweeps.another.sampler=random",
        "sweeps.another.trials=1",
    )
    call(sweep.main, repository.folder, "--name", "another")
    rows = pd.read_csv(repository.folder / "metrics/sweeps.csv").set_index("sweep")
    assert list(rows.index) == ["another", "small"] and rows["trials"].tolist() == [1, 3]
    assert rows["epochs"].tolist() == [2, 6] and rows["pruned"].tolist() == [0, 0]
    assert (
        rows["best_trial"]["small"]
        == pd.read_csv(repository.folder / "metrics/sweep-small.csv")["trial"][0]
    )
