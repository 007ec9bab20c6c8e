import pytest
from optuna.trial import TrialState

from fashion.core.errors import UserError
from tools.experiments.config import Sweep
from tools.experiments.study import STUDIES, SweepStudy, trial_params

TRIALS = 16  # beyond the 10 that TPE draws at random

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_sweep(**settings) -> Sweep:
    space = {"x": {"low": 0.001, "high": 1.0, "log": True}, "n": {"low": 1, "high": 9}}
    space |= {"kind": {"choices": ["a", "b"]}}
    values = {"metric": "val_loss", "trials": TRIALS, "seed": 1, "sampler": "tpe", "prune": False}
    return Sweep(**values | {"space": space} | settings)


def opened(name: str, sweep: Sweep, **conditions) -> SweepStudy:
    """The study as another process would open it."""
    return SweepStudy(name, sweep, 2, conditions)


def go_on(study: SweepStudy, trials: int) -> None:
    """Have so many more trials proposed, at most, and end each."""
    for _ in range(trials):
        if trial := study.ask():
            value = trial.params["x"] + trial.params["n"] + (trial.params["kind"] == "a")
            study.report(trial, 1, value)
            study.end(trial, TrialState.COMPLETE, value)


def outcomes(study: SweepStudy) -> list[tuple]:
    return [(t.state, t.params, t.value, t.intermediate_values) for t in study.trials]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_stopped_at_any_trial_it_proposes_the_same(sampler):
    sweep = make_sweep(sampler=sampler)
    undisturbed = opened("undisturbed", sweep)
    go_on(undisturbed, TRIALS)
    study = opened("s", sweep)
    for ended in (0, 3, 8, 2):
        go_on(study, ended)
        interrupted = study.ask()
        study.report(interrupted, 1, 0.5)  # an epoch that counts no more
        study = opened("s", sweep)
        assert not study.is_complete
        assert study.ask().params == interrupted.params
        study = opened("s", sweep)
    go_on(study, TRIALS)
    assert study.ask() is None and study.is_complete
    assert outcomes(study) == outcomes(undisturbed) == outcomes(opened("s", sweep))
    names = [study.experiment(trial) for trial in study.trials]
    assert names == [f"sweep-s-{i:03d}" for i in range(TRIALS)]


def test_a_proposal_that_was_not_written_whole_is_made_again():
    study = opened("s", make_sweep())
    go_on(study, 3)
    written = (STUDIES / "s.json").read_bytes()
    lost = study.ask()
    (STUDIES / "s.json").write_bytes(written)  # as if the process had been killed before
    again = opened("s", make_sweep()).ask()
    assert (again.number, again.params) == (lost.number, lost.params)


def test_several_that_were_running_come_first_and_in_their_order():
    study = opened("s", make_sweep())
    before = [study.ask() for _ in range(3)]
    study.end(before[1], TrialState.FAIL)
    study = opened("s", make_sweep())
    again = [study.ask() for _ in range(3)]
    assert [trial.number for trial in again] == [0, 2, 3]
    assert [trial.params for trial in again[:2]] == [before[0].params, before[2].params]


def test_trials_begun_under_other_conditions_are_refused():
    go_on(opened("s", make_sweep(), code="old", params=1), 1)
    with pytest.raises(UserError, match="begun with other code, and"):
        opened("s", make_sweep(), code="new", params=1)


def test_fractions_have_four_digits_and_stay_within_their_range():
    ranges = {"a": {"low": 0.0003, "high": 0.01}, "b": {"low": 0.0, "high": 0.99999}}
    sweep = make_sweep(space=ranges | {"c": {"choices": [0.123456]}, "d": {"low": 1, "high": 9}})
    proposed = {"a": 0.00031415926, "b": 0.999989, "c": 0.123456, "d": 3}
    assert trial_params(proposed, sweep) == {"a": 0.0003142, "b": 0.99999, "c": 0.123456, "d": 3}
