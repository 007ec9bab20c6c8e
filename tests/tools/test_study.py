import json

import pytest
from optuna.trial import TrialState

from fashion.core.errors import UserError
from tools.experiments.config import Sweep
from tools.experiments.study import STUDIES, SweepStudy, trial_params

TRIALS = 16  # more than the 10 that TPE draws at random


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_sweep(**settings) -> Sweep:
    space = {"x": {"low": 0.001, "high": 1.0, "log": True}, "n": {"low": 1, "high": 9}}
    space |= {"kind": {"choices": ["a", "b"]}}
    values = {"metric": "val_loss", "trials": TRIALS, "seed": 1, "sampler": "tpe", "prune": False}
    return Sweep(**values | {"space": space} | settings)


def opened(name: str, sweep: Sweep) -> SweepStudy:
    """Return the study as another process would open it."""
    return SweepStudy(name, sweep, 9, {})


def complete(study: SweepStudy, trials: int) -> None:
    """Ask for up to this many trials and complete each."""
    for _ in range(trials):
        if trial := study.ask():
            value = trial.params["x"] + trial.params["n"] + (trial.params["kind"] == "a")
            study.report(trial, 1, value)
            study.end(trial, TrialState.COMPLETE, value)


def outcomes(study: SweepStudy) -> list[tuple]:
    return [(t.state, t.params, t.value, t.intermediate_values) for t in study.trials]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_is_stopped_at_any_trial_proposes_the_same_trials(sampler):
    sweep = make_sweep(sampler=sampler)
    undisturbed = opened("undisturbed", sweep)
    complete(undisturbed, TRIALS)
    study = opened("s", sweep)
    for ended in (0, 3, 8, 2):
        complete(study, ended)
        interrupted = study.ask()
        study.report(interrupted, 1, 0.5)  # which the next process reports again
        study = opened("s", sweep)
        assert not study.is_complete
        assert study.ask().params == interrupted.params
        study = opened("s", sweep)
    complete(study, TRIALS)
    assert study.ask() is None and study.is_complete
    assert outcomes(study) == outcomes(undisturbed) == outcomes(opened("s", sweep))
    values = {trial.params["x"] for trial in study.trials}
    assert len(values) == TRIALS and sum(x < 0.1 for x in values) > 5  # log
    assert type(study.study.sampler).__name__.lower() == f"{sampler}sampler"
    names = [study.experiment(trial) for trial in study.trials]
    assert names == [f"sweep-s-{i:03d}" for i in range(TRIALS)]


def test_stopped_and_failed_trials_come_first_in_their_order_and_the_study_waits_for_them():
    sweep = make_sweep(trials=3)
    study = opened("s", sweep)
    before = [study.ask() for _ in range(3)]
    study.end(before[1], TrialState.FAIL)
    study = opened("s", sweep)
    first = study.ask()
    study = opened("s", sweep)  # stopped again, before the second one was asked for
    *again, none = [study.ask() for _ in range(4)]
    assert [trial.number for trial in again] == [0, 1, 2] and none is None
    assert [trial.params for trial in again] == [trial.params for trial in before]
    assert first.params == before[0].params and study.best is None
    for trial in again:
        assert not study.is_complete
        study.end(trial, TrialState.COMPLETE, trial.params["x"])
    assert study.is_complete


@pytest.mark.parametrize(("metric", "sign"), [("val_loss", 1), ("val_accuracy", -1)])
def test_trials_below_the_median_are_pruned_and_ranked_after_completed_ones(metric, sign):
    study = opened("s", make_sweep(metric=metric))
    for value in (3, 1, 2, 5, 4):  # as many as Optuna waits for
        trial = study.ask()
        for epoch in (2, 3):
            study.report(trial, epoch, sign * value)
        study.end(trial, TrialState.COMPLETE, sign * value)
    study.end(study.ask(), TrialState.FAIL)
    trial = study.ask()
    for epoch, value, is_bad in ((2, 9, False), (3, 9, True)):  # not before a third of 9 epochs
        assert study.report(trial, epoch, sign * value)
        assert trial.should_prune() == is_bad
    assert not study.report(trial, 3, 0)
    study.end(trial, TrialState.PRUNED)
    assert [trial.number for trial in study.ranked] == [1, 2, 0, 4, 3, 6, 5]
    assert study.best.number == 1


def test_a_pruned_trial_is_not_the_best():
    study = opened("s", make_sweep())
    study.end(study.ask(), TrialState.PRUNED)
    assert len(study.ranked) == 1 and study.best is None


def test_corrupted_files_are_refused():
    complete(opened("s", make_sweep()), 1)
    for content in ("{", "[]", '{"conditions": {}}', '{"conditions": {}, "trials": [{}]}'):
        (STUDIES / "s.json").write_text(content)
        with pytest.raises(UserError, match=r"s\.json is corrupted"):
            opened("s", make_sweep())
    (STUDIES / "s.json").write_text(json.dumps({"conditions": {}, "trials": []}))
    assert opened("s", make_sweep()).ask().number == 0


def test_fractions_have_four_digits_and_stay_within_their_range():
    ranges = {"a": {"low": 0.0003, "high": 0.01}, "b": {"low": 0.0, "high": 0.99999}}
    sweep = make_sweep(space=ranges | {"c": {"choices": [0.123456]}, "d": {"low": 1, "high": 9}})
    proposed = {"a": 0.00031415926, "b": 0.999989, "c": 0.123456, "d": 3}
    half_whole = make_sweep(space={"x": {"low": 1, "high": 2.5}})
    assert opened("s", half_whole).ask().params["x"] % 1 > 0
    assert trial_params(proposed, sweep) == {"a": 0.0003142, "b": 0.99999, "c": 0.123456, "d": 3}
