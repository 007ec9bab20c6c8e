"""A sweep's Optuna study: what is proposed next, and what came of each trial.

A trial is known by the name of its experiment, sweep-NAME-000 and so on. One that was under way
when the sweep was stopped is proposed again under its name; of the two that Optuna then has, the
later one counts.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from fashion.core.errors import UserError
from tools.experiments.config import EXPERIMENTS, Range, Sweep

STORAGE = Path(".dvc/tmp/sweeps.sqlite")
PRUNER_WARMUP_FRACTION = 1 / 3  # of the epochs: no trial is pruned before
EXPERIMENT = "experiment"  # attribute of a trial: the name of its experiment


def open_study(name: str, sweep: Sweep, epochs: int, conditions: dict[str, Any]) -> optuna.Study:
    """Return the sweep's study, with what has been tried in trials of so many epochs.

    `conditions` are what trials must have in common to be compared. Raises UserError where the
    study was begun under others.
    """
    STORAGE.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{STORAGE}",
        study_name=name,
        direction="minimize" if sweep.metric == "val_loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=round(PRUNER_WARMUP_FRACTION * epochs)),
        load_if_exists=True,
    )
    found = study.user_attrs.get("conditions", conditions)
    other = [part for part in conditions if found.get(part) != conditions[part]]
    if other:
        raise UserError(
            f"the sweep {name} was begun with other {' and '.join(other)}, and its trials"
            f" can't be compared with new ones. Give it another name in {EXPERIMENTS}"
        )
    study.set_user_attr("conditions", conditions)
    return study


def list_trials(study: optuna.Study) -> dict[str, FrozenTrial]:
    """Return the trials by the names of their experiments."""
    # to copy them takes long where there are a thousand
    trials = study.get_trials(deepcopy=False)
    return {
        trial.user_attrs[EXPERIMENT]: trial for trial in trials if EXPERIMENT in trial.user_attrs
    }


def requeue_interrupted(study: optuna.Study) -> None:
    """Have the trials that were under way when the sweep was stopped proposed again, first."""
    named = [trial for trial in study.get_trials(deepcopy=False) if EXPERIMENT in trial.user_attrs]
    # the first of a name has a value for each param, a later one maybe not yet
    proposed = {trial.user_attrs[EXPERIMENT]: trial.params for trial in reversed(named)}
    queued = [t.user_attrs[EXPERIMENT] for t in named if t.state == TrialState.WAITING]
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        name = trial.user_attrs.get(EXPERIMENT)
        if name and name not in queued:
            study.enqueue_trial(proposed[name], user_attrs={EXPERIMENT: name})
        study.tell(trial.number, state=TrialState.FAIL)


def ask(study: optuna.Study, name: str, sweep: Sweep) -> optuna.Trial | None:
    """Return the next trial, with a value for each param; None where the sweep has all.

    What is proposed follows from the sweep's seed, the number of trials so far, and those that have
    ended.
    """
    known = list_trials(study)
    if len(known) >= sweep.trials and not study.get_trials(False, [TrialState.WAITING]):
        return None
    study.sampler = make_sampler(sweep, len(known))
    trial = study.ask()
    for param, space in sweep.space.items():
        suggest(trial, param, space)
    if EXPERIMENT not in trial.user_attrs:  # last, so that one without a name does not count yet
        trial.set_user_attr(EXPERIMENT, f"sweep-{name}-{len(known):03d}")
    return trial


def make_sampler(sweep: Sweep, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the trial with this number, one for each."""
    seed = (sweep.seed + number) % 2**32
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def suggest(trial: optuna.Trial, name: str, space: Range) -> None:
    """Have a param's value proposed, from its choices or its range."""
    if space.choices:
        trial.suggest_categorical(name, space.choices)
    elif isinstance(space.low, int) and isinstance(space.high, int):
        trial.suggest_int(name, space.low, space.high, log=space.log)
    else:
        trial.suggest_float(name, space.low, space.high, log=space.log)


def report_epochs(trial: optuna.Trial, values: Iterable[float], known: int) -> Iterator[int]:
    """Tell Optuna the metric after each epoch but the first `known`; yield each as it is told."""
    for epoch, value in enumerate(values, 1):
        if epoch > known:
            trial.report(value, epoch)
            yield epoch


def trial_params(proposed: dict, sweep: Sweep) -> dict:
    """Return params as a trial is run with.

    Fractions are as Optuna proposes them, but with four digits, within their range. Their last bits
    come of logarithms, which NumPy computes otherwise by other instruction sets.
    """
    rounded = {}
    for name, value in proposed.items():
        space = sweep.space[name]
        if isinstance(value, float) and space.choices is None:
            value = min(max(float(f"{value:.4g}"), space.low), space.high)
        rounded[name] = value
    return rounded
