import json

import pandas as pd
import pytest

from fashion.core.strict_yaml import read_yaml
from tests.support.commands import begin, call, refusal
from tests.support.repository import Repository
from tools.experiments import sweep
from tools.report import __main__ as report

SWEEP = """sweeps={small: {
  metric: val_accuracy, trials: 3, jobs: 1, seed: 1, sampler: tpe, prune: false, \
fixed: {train.epochs: 2},
  space: {
    train.learning_rate: {low: 0.0001, high: 0.1, log: true}, train.batch_size: {choices: [32, 64]},
    model.dropout: {low: 0.0, high: 0.5},
  },
}}"""
NAMES = [f"sweep-small-{i:03d}" for i in range(3)]


def table(repository) -> pd.DataFrame:
    return pd.read_csv(repository.folder / "metrics/sweeps/small.csv").set_index("trial")


@pytest.fixture(scope="module")
def swept(built_toy, tmp_path_factory) -> tuple[Repository, str]:
    """A repository whose sweep of three trials has run, one at a time, and what that printed."""
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("swept") / "project")
    toy.set(SWEEP)
    toy.commit("A small sweep")
    return toy, toy.python("tools.experiments.sweep")


def test_each_trial_is_an_experiment_with_the_value_that_the_table_has(swept):
    repository, output = swept
    trials = table(repository)
    assert list(repository.experiments()) == NAMES == sorted(trials.index)
    assert trials["val_accuracy"].is_monotonic_decreasing
    assert trials["train.learning_rate"].between(0.0001, 0.1).all() and set(trials["epochs"]) == {2}
    for name, revision in repository.experiments().items():
        metrics = json.loads(repository.run("git", "show", f"{revision}:metrics/train.json"))
        assert trials["val_accuracy"][name] == metrics["val_accuracy"]
    assert "3 completed, 0 pruned, 0 failed" in output and "explains" in output
    assert repository.read("plots/sweeps/small.png").startswith(b"\x89PNG")


def test_the_report_shows_it_but_not_its_trials_among_the_experiments(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    assert "this commit has no experiments yet" in refusal(report.main, repository.folder)
    call(report.main, repository.folder, NAMES[0])
    page = repository.read("report.html").decode()
    assert "<h2>Sweep small</h2>" in page and f"<td>{NAMES[2]}</td>" in page
    # nor do trials hide the experiments of an earlier commit with the same pipeline
    earlier = repository.run("git", "rev-parse", "HEAD~1").strip()
    tree = f"{repository.experiments()[NAMES[0]]}^{{tree}}"
    plain = repository.run("git", "commit-tree", tree, "-m", "Experiment").strip()
    reference = f"refs/exps/{earlier[:2]}/{earlier[2:]}/sweep-small-plain"
    repository.run("git", "update-ref", reference, plain)
    assert "comparing sweep-small-plain." in call(report.main, repository.folder)


def test_a_second_call_runs_nothing(swept):
    repository, _ = swept
    before = repository.results()
    output = call(sweep.main, repository.folder)
    assert "epoch 1/" not in output and "3 completed" in output and repository.results() == before


def test_a_killed_sweep_goes_on_with_the_same_trials(swept, toy):
    toy.slow_training(0.3)  # so that it is killed in an epoch
    toy.set(SWEEP)
    toy.commit("A small sweep")
    with begin(toy, "tools.experiments.sweep") as command:
        command.wait_for_line(f"{NAMES[1]}: epoch")
        command.kill()
    assert list(toy.experiments()) == NAMES[:1]
    output = call(sweep.main, toy.folder)
    assert f"{NAMES[0]}: " not in output and f"{NAMES[1]}: epoch 1/2" in output
    assert list(toy.experiments()) == NAMES
    pd.testing.assert_frame_equal(table(toy), table(swept[0]))


def test_a_trial_that_ended_as_the_sweep_was_killed_is_not_run_again(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    path = repository.folder / ".dvc/tmp/sweeps/small.json"
    study = json.loads(path.read_text())
    study["trials"][2] |= {"state": "RUNNING", "value": None, "intermediate_values": {}}
    path.write_text(json.dumps(study))
    before = repository.results(), repository.experiments()
    output = call(sweep.main, repository.folder)
    assert "epoch 1/" not in output and "3 completed" in output
    assert (repository.results(), repository.experiments()) == before


def test_the_best_params_are_written_and_the_comments_stay(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    path = repository.folder / "params.yaml"
    path.write_text(f"# every knob\n{path.read_text()}")
    repository.commit("The results of the sweep")  # its experiments are those of the commit before
    output = call(sweep.main, repository.folder, "--apply")
    assert "`dvc repro` makes its results" in output
    best = table(repository).iloc[0]
    repository.dvc("repro", "train")
    assert "up to date" in repository.dvc("status", "train")
    params = read_yaml(path)
    for name in ("model.dropout", "train.learning_rate", "train.batch_size"):
        section, key = name.split(".")
        assert params[section][key] == best[name]
    assert params["train"]["epochs"] == 2 and path.read_text().startswith("# every knob\n")


@pytest.mark.parametrize(("metric", "sign"), [("val_accuracy", 1), ("val_loss", -1)])
def test_a_hopeless_trial_is_pruned(toy, metric, sign):
    toy.set(
        SWEEP,
        f"sweeps.small.metric={metric}",
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
    pruned, complete = (trials[trials["state"] == state] for state in ("pruned", "complete"))
    assert list(trials.index) == [*complete.index, *pruned.index]
    assert (sign * complete[metric]).is_monotonic_decreasing
    # trials are ended from a third on, not after the last
    assert len(pruned) and pruned["epochs"].between(3, 8).all(), output
    assert set(pruned["train.learning_rate"]) == {1e-7} and f"{len(pruned)} pruned" in output
    assert list(toy.experiments()) == sorted(complete.index)
    assert output.count(": pruned\n") == len(pruned)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sweeps.small.space={train.epoch: {choices: [1]}}", "train.epoch is not a known param"),
        ("sweeps.small.space={train.epochs: {choices: [1, 0]}}", "train.epochs is 0"),
        ("sweeps.small.space={model.dropout: {low: 0.0, high: 1.5}}", "model.dropout is 1.5"),
        ("sweeps.small.space={model.dropout: {low: 0.5, high: 0.1}}", "a low and a higher high"),
        (
            "sweeps.small.space={model.dropout: {low: 0.0, high: 0.5, log: true}}",
            "low must be greater than 0",
        ),
        ("sweeps.small.space={}", "sweeps.small.space is {}"),
        ("sweeps.small.metric=accuracy", "Input should be 'val_accuracy' or 'val_loss'"),
        ("sweeps.small.trials=0", "sweeps.small.trials is 0"),
        ("sweeps.small.space={model.filters: {choices: [[9]]}}", "model.filters.choices.0"),
        ("sweeps={}", "there is no sweep at all in experiments.yaml. There are: none"),
        ("sweeps={a b: {}}", "sweeps.a b"),
    ],
)
def test_what_can_not_be_searched_is_refused_before_anything_starts(toy, change, message):
    toy.set(SWEEP, change)
    assert message in refusal(sweep.main, toy.folder)
    assert toy.experiments() == {}


@pytest.mark.parametrize(
    ("changes", "variables", "what"),
    [
        (["seed=43"], {}, "other params"),
        (["sweeps.small.seed=2"], {}, "other sweep"),
        (["sweeps.small.prune=true"], {}, "other sweep"),
        (["name=others"], {}, "other code"),  # in dataset.yaml
        ([], {"ARITHMETIC": "native"}, "other environment"),
    ],
)
def test_trials_under_other_conditions_are_not_mixed(swept, tmp_path, changes, variables, what):
    repository = swept[0].copy(tmp_path / "project")
    repository.set(*changes)
    output = repository.python("tools.experiments.sweep", status=1, **variables)
    assert f"begun with {what}, and" in output and "Give it another name" in output


@pytest.mark.parametrize("content", ["{", "[]", '{"conditions": {}}'])
def test_damaged_trials_are_reported(swept, tmp_path, content):
    repository = swept[0].copy(tmp_path / "project")
    (repository.folder / ".dvc/tmp/sweeps/small.json").write_text(content)
    assert "small.json is damaged" in repository.python("tools.experiments.sweep", status=1)


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
    assert rows["best_trial"]["small"] == table(repository).index[0]
