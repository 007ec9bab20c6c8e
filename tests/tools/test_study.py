import optuna
import pytest
from optuna.trial import TrialState

from tools.experiments.config import Sweep
from tools.experiments.study import (
    EXPERIMENT,
    ask,
    list_trials,
    open_study,
    requeue_interrupted,
    trial_params,
)

TRIALS = 16  # beyond the 10 that TPE draws at random


def make_sweep(**settings) -> Sweep:
    space = {"x": {"low": 0.001, "high": 1.0, "log": True}, "n": {"low": 1, "high": 9}}
    space |= {"kind": {"choices": ["a", "b"]}}
    values = {"metric": "val_loss", "trials": TRIALS, "seed": 1, "sampler": "tpe", "prune": False}
    return Sweep(**values | {"space": space} | settings)


def value(params: dict) -> float:
    return params["x"] + params["n"] + (params["kind"] == "a")


def go_on(study: optuna.Study, sweep: Sweep, trials: int) -> None:
    """Have so many more trials proposed, at most, and end each."""
    for _ in range(trials):
        if trial := ask(study, "s", sweep):
            study.tell(trial, value(trial.params))


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_stopped_at_any_trial_it_proposes_the_same(sampler):
    sweep = make_sweep(sampler=sampler)
    undisturbed = open_study("undisturbed", sweep, 2, {})
    go_on(undisturbed, sweep, TRIALS)
    study = open_study("s", sweep, 2, {})
    for ended in (0, 3, 8, 2):
        go_on(study, sweep, ended)
        interrupted = ask(study, "s", sweep)
        study = open_study("s", sweep, 2, {})
        requeue_interrupted(study)
        requeue_interrupted(study)  # stopped again before any was proposed
        assert ask(study, "s", sweep).params == interrupted.params
        study = open_study("s", sweep, 2, {})
        requeue_interrupted(study)
    go_on(study, sweep, TRIALS)
    assert ask(study, "s", sweep) is None
    expected = [trial.params for trial in undisturbed.get_trials()]
    found = list_trials(study)
    assert list(found) == [f"sweep-s-{i:03d}" for i in range(TRIALS)]
    assert [trial.params for trial in found.values()] == expected
    assert {trial.state for trial in found.values()} == {TrialState.COMPLETE}


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize("proposed_before", [False, True])
def test_one_stopped_between_two_params_is_proposed_whole(proposed_before):
    sweep = make_sweep()
    undisturbed = ask(open_study("undisturbed", sweep, 2, {}), "s", sweep)
    study = open_study("s", sweep, 2, {})
    if proposed_before:
        ask(study, "s", sweep)
        requeue_interrupted(study)
    study.sampler = optuna.samplers.RandomSampler(seed=9)
    study.ask().suggest_float("x", 0.001, 1.0, log=True)  # and here the process ends
    requeue_interrupted(study)
    trial = ask(study, "s", sweep)
    assert trial.params == undisturbed.params
    assert trial.user_attrs == {EXPERIMENT: "sweep-s-000"}


@pytest.mark.usefixtures("in_a_folder")
def test_several_that_were_under_way_come_first_and_in_their_order():
    sweep = make_sweep()
    study = open_study("s", sweep, 2, {})
    before = [ask(study, "s", sweep) for _ in range(3)]
    study.tell(before[1], 1.0)
    requeue_interrupted(study)
    names = [ask(study, "s", sweep).user_attrs[EXPERIMENT] for _ in range(3)]
    assert names == ["sweep-s-000", "sweep-s-002", "sweep-s-003"]


def test_fractions_have_four_digits_and_stay_within_their_range():
    ranges = {"a": {"low": 0.0003, "high": 0.01}, "b": {"low": 0.0, "high": 0.99999}}
    sweep = make_sweep(space=ranges | {"c": {"choices": [0.123456]}, "d": {"low": 1, "high": 9}})
    proposed = {"a": 0.00031415926, "b": 0.999989, "c": 0.123456, "d": 3}
    assert trial_params(proposed, sweep) == {"a": 0.0003142, "b": 0.99999, "c": 0.123456, "d": 3}
