import json
from types import SimpleNamespace

import pandas as pd
import pytest

from fashion.comparisons import parallel_coordinates
from fashion.core.errors import UserError
from fashion.core.files import read_csv
from fashion.core.strict_yaml import check_config, read_yaml
from tests.support.commands import begin, call, refusal
from tests.support.repository import PROJECT, Repository
from tools.experiments import sweep
from tools.experiments.backend import ExperimentSpec
from tools.experiments.config import Experiments, Sweep
from tools.experiments.runner import ExperimentRun
from tools.experiments.study import SweepStudy
from tools.report import __main__ as report

SMALL = {
    "metric": "val_accuracy",
    "trials": 3,
    "jobs": 1,
    "seed": 1,
    "sampler": "tpe",
    "prune": False,
    "fixed": {"train.epochs": 2},
    "space": {
        "train.learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
        "train.batch_size": {"choices": [32, 64]},
        "model.dropout": {"low": 0.0, "high": 0.5},
    },
}
NAMES = [f"sweep-small-{i:03d}" for i in range(3)]


def with_sweep(repository: Repository, **changes) -> None:
    """Commit a sweep, `small` with these changes."""
    repository.set(f"sweeps={json.dumps({'small': SMALL | changes})}")
    repository.commit("A small sweep")


def table(repository) -> pd.DataFrame:
    return pd.read_csv(repository.folder / "metrics/sweeps/small.csv").set_index("trial")


@pytest.fixture(scope="module")
def swept(built_toy, tmp_path_factory) -> tuple[Repository, str]:
    """Return a repository whose sweep was killed in the second of three trials and resumed.

    The second value is what the resumed sweep printed.
    """
    toy = Repository(built_toy).copy(tmp_path_factory.mktemp("swept") / "project")
    toy.slow_training(0.3)  # so that the kill hits an epoch
    toy.commit("Slow")
    with_sweep(toy)
    with begin(toy, "tools.experiments.sweep") as command:
        command.wait_for_line(f"{NAMES[1]}: epoch")
        command.kill()
    assert list(toy.experiments()) == NAMES[:1]
    return toy, toy.python("tools.experiments.sweep")


def test_a_killed_sweep_resumes_and_each_trial_is_an_experiment(swept):
    repository, output = swept
    assert f"{NAMES[0]}: " not in output and f"{NAMES[1]}: epoch 1/2" in output
    trials = table(repository)
    assert list(repository.experiments()) == NAMES == sorted(trials.index)
    assert trials["val_accuracy"].is_monotonic_decreasing
    assert trials["train.learning_rate"].between(0.0001, 0.1).all() and set(trials["epochs"]) == {2}
    for name, revision in repository.experiments().items():
        metrics = json.loads(repository.run("git", "show", f"{revision}:metrics/train.json"))
        assert trials["val_accuracy"][name] == metrics["val_accuracy"]
    assert "3 completed, 0 pruned, 0 failed" in output and "explains" in output
    assert repository.read("plots/sweeps/small.png").startswith(b"\x89PNG")


def test_the_report_shows_the_sweep_but_no_trials_among_the_experiments(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    assert "this commit has no experiments yet" in refusal(report.main, repository.folder)
    repository.set("seed=7")
    call(report.main, repository.folder, NAMES[0])
    page = repository.read("report.html").decode()
    assert "<h2>Sweep small</h2>" in page and f"<td>{NAMES[2]}</td>" in page and "-dirty" in page
    # nor do trials hide the experiments of an earlier commit with the same pipeline
    earlier = repository.run("git", "rev-parse", "HEAD~1").strip()
    tree = f"{repository.experiments()[NAMES[0]]}^{{tree}}"
    plain = repository.run("git", "commit-tree", tree, "-m", "Experiment").strip()
    reference = f"refs/exps/{earlier[:2]}/{earlier[2:]}/sweep-small-plain"
    repository.run("git", "update-ref", reference, plain)
    assert "comparing sweep-small-plain." in call(report.main, repository.folder)


def test_a_trial_that_ended_as_the_sweep_was_killed_is_not_run_again(swept):
    repository, _ = swept
    path = repository.folder / ".dvc/tmp/sweeps/small.json"
    study = json.loads(path.read_text())
    study["trials"][2] |= {"state": "RUNNING", "value": None, "intermediate_values": {}}
    path.write_text(json.dumps(study))
    before = repository.results(), repository.experiments()
    output = call(sweep.main, repository.folder)
    assert f"{NAMES[2]}: " not in output and "3 completed" in output
    assert (repository.results(), repository.experiments()) == before


def test_a_stopped_sweep_has_a_plot_of_its_completed_trials_and_no_row(
    swept, tmp_path, monkeypatch
):
    repository, handed = swept[0].copy(tmp_path / "project"), []
    (repository.folder / "metrics/sweeps.csv").unlink()
    path = repository.folder / ".dvc/tmp/sweeps/small.json"
    study = json.loads(path.read_text())
    min(study["trials"], key=lambda trial: trial["value"])["state"] = "PRUNED"
    path.write_text(json.dumps(study))

    def spy(trials, metric, logarithmic, shares, title):
        handed.append((len(trials), metric, logarithmic, [*shares]))
        return parallel_coordinates(trials, metric, logarithmic, shares, title)

    monkeypatch.setattr("fashion.comparisons.parallel_coordinates", spy)
    monkeypatch.chdir(repository.folder)
    for trials, has_row in ((4, False), (3, True)):
        small = Sweep.model_validate(SMALL | {"trials": trials})
        sweep.save_results(SweepStudy("small", small, 2, {}))
        assert (repository.folder / "metrics/sweeps.csv").exists() == has_row
    assert handed == 2 * [(2, "val_accuracy", {"train.learning_rate"}, [*SMALL["space"]])]


def test_the_best_params_are_applied_and_a_second_sweep_is_a_row_beside_the_first(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    path = repository.folder / "params.yaml"
    path.write_text(f"# every knob\n{path.read_text()}")
    another = SMALL | {"sampler": "random", "trials": 1}
    repository.set(f"sweeps={json.dumps({'small': SMALL, 'another': another})}")
    repository.commit("The results of the sweep")  # its experiments belong to the commit before
    call(sweep.main, repository.folder, "--name", "another")
    rows = pd.read_csv(repository.folder / "metrics/sweeps.csv").set_index("sweep")
    assert list(rows.index) == ["another", "small"] and rows["trials"].tolist() == [1, 3]
    assert rows["epochs"].tolist() == [2, 6] and rows["pruned"].tolist() == [0, 0]
    best = table(repository).iloc[0]
    assert rows["best_trial"]["small"] == best.name
    metrics = f"{repository.experiments()[best.name]}:metrics/test.json"
    assert (
        rows["accuracy"]["small"] == json.loads(repository.run("git", "show", metrics))["accuracy"]
    )
    assert "`dvc repro` makes its results" in call(sweep.main, repository.folder, "--apply")
    params = read_yaml(path)
    for name in SMALL["space"]:
        section, key = name.split(".")
        assert params[section][key] == best[name]
    assert params["train"]["epochs"] == 2 and path.read_text().startswith("# every knob\n")


def test_a_sweep_whose_name_is_a_number_has_one_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = {"val_accuracy": 0.5, "val_loss": 1.0, "accuracy": 0.5}
    best = SimpleNamespace(name="sweep-007-000", train=scores, test=scores, environment={})
    for _ in range(2):
        sweep.save_summary(best, pd.DataFrame({"state": ["complete"], "epochs": [1]}), "007")
    assert read_csv(sweep.SUMMARY)["sweep"].tolist() == ["007"]


@pytest.mark.parametrize(("epochs", "is_pruned"), [(3, True), (2, False)])
def test_a_trial_is_not_pruned_after_its_last_epoch(epochs, is_pruned):
    study = SimpleNamespace(sweep=SimpleNamespace(metric="val_loss", prune=True))
    study.report, study.end = lambda *_: True, lambda *_: None
    trials = sweep.Trials(study, None, {})
    trials.started["a"] = SimpleNamespace(should_prune=lambda: True)
    run = ExperimentRun(ExperimentSpec("a"), None, "running", epochs)
    run.history = [{"epoch": 2, "val_loss": 1.0}]
    assert trials.should_prune(run) == is_pruned


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned(toy):
    rates = {"train.learning_rate": {"choices": [0.001, 0.0000001]}}
    with_sweep(
        toy,
        metric="val_loss",
        prune=True,
        trials=1,
        seed=2,  # proposes 0.001 first, and 0.0000001 as the sixth
        sampler="random",
        fixed={"train.epochs": 9},
        space=rates | {"seed": {"low": 0, "high": 1000}},
    )
    call(sweep.main, toy.folder)
    path = toy.folder / ".dvc/tmp/sweeps/small.json"
    study = json.loads(path.read_text())
    [trial] = study["trials"]
    assert trial["value"] == pytest.approx(trial["intermediate_values"]["9"], abs=1e-4)
    study["trials"] *= 5  # Optuna prunes no trial before five have completed
    path.write_text(json.dumps(study))
    toy.set("sweeps.small.trials=6")
    output = call(sweep.main, toy.folder)
    last = table(toy).iloc[-1]
    assert (last.name, last["state"]) == ("sweep-small-005", "pruned")
    # a third of the epochs at the earliest, and not after the last
    assert 3 <= last["epochs"] <= 8 and last["train.learning_rate"] == 1e-7, output
    assert "sweep-small-005: pruned\n" in output and "5 completed, 1 pruned, 0 failed" in output
    assert list(toy.experiments()) == ["sweep-small-000"]


@pytest.mark.slow
def test_a_failed_trial_is_reported_and_runs_again_and_the_best_is_applied(toy):
    with_sweep(toy, space={"train.learning_rate": {"choices": [1.0, 0.002]}})  # 1.0 diverges
    failed = "sweep-small-001 failed. Its last lines:"
    assert failed in refusal(sweep.main, toy.folder)
    assert table(toy)["state"].tolist() == ["complete", "complete", "fail"]
    assert read_yaml(toy.folder / "params.yaml")["train"]["learning_rate"] == 0.001
    assert failed in refusal(sweep.main, toy.folder, "--apply")  # it might have been the disk
    assert read_yaml(toy.folder / "params.yaml")["train"]["learning_rate"] == 0.002


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"train.epoch": {"choices": [1]}}}, "train.epoch is not a known param"),
        ({"space": {"train.batch_size": {"choices": [1, 0]}}}, "train.batch_size is 0"),
        ({"space": {"model.dropout": {"low": 0.0, "high": 1.5}}}, "model.dropout is 1.5"),
        ({"space": {"model.dropout": {"low": 0.5, "high": 0.1}}}, "low and high with low < high"),
        ({"space": {"model.dropout": {"low": 0, "high": 1, "log": True}}}, "greater than 0"),
        ({"space": {"seed": {"choices": [1], "low": 0}}}, "can't have low, high or log"),
        ({"space": {"seed": {"choices": [1], "log": True}}}, "can't have low, high or log"),
        ({"space": {}}, "sweeps.small.space is {}"),
        (
            {"fixed": {"seed": 1}, "space": {"seed": {"choices": [1]}}},
            "seed: in fixed and in space",
        ),
        ({"metric": "accuracy"}, "Input should be 'val_accuracy' or 'val_loss'"),
    ],
)
def test_a_wrong_sweep_is_refused(change, message):
    values = {"experiments": {}, "sweeps": {"small": SMALL | change}}
    with pytest.raises(UserError) as error:
        checked = check_config(values, "experiments.yaml", Experiments).sweeps["small"]
        sweep.check_space(checked, read_yaml(PROJECT / "params.yaml"), "experiments.yaml")
    assert message in str(error.value)


def test_a_sweep_that_does_not_exist_or_has_other_conditions_is_refused(swept, tmp_path):
    repository = swept[0].copy(tmp_path / "project")
    for change, other in [
        ("seed=43", "params"),
        ("arithmetic=native", "params"),
        ("sweeps.small.seed=2", "sweep"),
        ("sweeps.small.prune=true", "sweep"),
        ("name=others", "code"),  # in dataset.yaml
    ]:
        repository.set(change)
        with pytest.raises(UserError, match=f"began with other {other}, so .* another name in"):
            call(sweep.main, repository.folder)
        repository.run(
            "git", "checkout", "--quiet", "params.yaml", "experiments.yaml", "dataset.yaml"
        )
    repository.set("train.epochs=9", "model.dropout=0.4", "sweeps.small.jobs=2")
    assert "3 completed" in call(sweep.main, repository.folder)
    (repository.folder / ".dvc/tmp/sweeps/small.json").unlink()  # starts it again
    repository.set("name=others", "sweeps.small.trials=1")
    assert f"{NAMES[0]}: epoch 2/2" in call(sweep.main, repository.folder)  # with the new code
    names = list(repository.experiments())
    repository.dvc("exp", "remove", *names)
    message = refusal(sweep.main, repository.folder)
    assert "To run the sweep again, remove .dvc/tmp/sweeps/small.json" in message
    repository.set("sweeps.small.space={train.epoch: {choices: [1]}}")
    assert "sweeps.small: train.epoch is not" in refusal(sweep.main, repository.folder)
    repository.set("sweeps={}")
    message = refusal(sweep.main, repository.folder)
    assert "there is no sweep at all in experiments.yaml. There are: none" in message
