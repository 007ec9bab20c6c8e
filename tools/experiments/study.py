"""A sweep's trials: what Optuna proposes, and the outcome of each, kept in a file.

Trials are numbered; the sampler of each has a seed of its own. So proposals follow from the sweep's
seed and the trials that have ended, whether or not the sweep was stopped meanwhile.
"""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from fashion.core.errors import UserError
from fashion.core.files import atomic_write
from tools.experiments.config import EXPERIMENTS, Range, Sweep

STUDIES = Path(".dvc/tmp/sweeps")
PRUNER_WARMUP_FRACTION = 1 / 3  # of the epochs: no trial is pruned before


class SweepStudy:
    """Optuna's study of a sweep, with the trials of earlier calls.

    `conditions` is what trials must have in common to be compared. Raises UserError if the sweep
    was begun under others.
    """

    def __init__(self, name: str, sweep: Sweep, epochs: int, conditions: dict[str, Any]):
        self.name, self.sweep, self.conditions = name, sweep, conditions
        self.path = STUDIES / f"{name}.json"
        warmup = round(PRUNER_WARMUP_FRACTION * epochs)
        self.study = optuna.create_study(
            direction="minimize" if sweep.metric == "val_loss" else "maximize",
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=warmup),
        )
        self.distributions = {param: distribution(sweep.space[param]) for param in sweep.space}
        self.interrupted: list[optuna.Trial] = []
        if self.path.exists():
            try:
                saved = json.loads(self.path.read_bytes())
                self._restore(saved["conditions"], saved["trials"])
            except (ValueError, TypeError, KeyError):
                raise UserError(
                    f"{self.path} is damaged, or of another version. Remove it, and the sweep"
                    " begins anew: DVC has the results of its trials"
                ) from None

    def _restore(self, conditions: dict[str, Any], trials: list[dict]) -> None:
        other = [part for part in self.conditions if conditions.get(part) != self.conditions[part]]
        if other:
            raise UserError(
                f"the sweep {self.name} was begun with other {' and '.join(other)}, and its trials"
                f" can't be compared with new ones. Give it another name in {EXPERIMENTS}"
            )
        for trial in trials:
            state, epochs = TrialState[trial["state"]], trial["intermediate_values"]
            if state.is_finished():
                trial |= {"state": state, "distributions": self.distributions}
                trial["intermediate_values"] = {int(epoch): epochs[epoch] for epoch in epochs}
                self.study.add_trial(optuna.trial.create_trial(**trial))
            else:
                self.study.enqueue_trial(trial["params"])
                self.interrupted.append(self.study.ask(self.distributions))

    def _save(self) -> None:
        fields = ("params", "value", "intermediate_values")
        trials = [
            {"state": trial.state.name} | {field: getattr(trial, field) for field in fields}
            for trial in self.trials
        ]
        with atomic_write(self.path) as path:
            path.write_text(json.dumps({"conditions": self.conditions, "trials": trials}))

    @property
    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number."""
        return self.study.get_trials(deepcopy=False)  # to copy a thousand takes long

    @property
    def is_complete(self) -> bool:
        return len(self.trials) >= self.sweep.trials and not self.interrupted

    def experiment(self, trial: FrozenTrial | optuna.Trial) -> str:
        """Return the name of a trial's experiment."""
        return f"sweep-{self.name}-{trial.number:03d}"

    def ask(self) -> optuna.Trial | None:
        """Return the next trial, with a value for each param; None if the sweep has all.

        Trials that were running when the sweep was stopped come first.
        """
        if self.interrupted or self.is_complete:
            return self.interrupted.pop(0) if self.interrupted else None
        self.study.sampler = make_sampler(self.sweep, len(self.trials))
        trial = self.study.ask(self.distributions)
        self._save()
        return trial

    def report(self, trial: optuna.Trial, epoch: int, value: float) -> bool:
        """Note the metric after an epoch. Return whether the epoch is new."""
        if epoch in self.trials[trial.number].intermediate_values:
            return False
        trial.report(value, epoch)
        return True

    def end(self, trial: optuna.Trial, state: TrialState, value: float | None = None) -> None:
        """Note how a trial has ended; `value` is the metric of a complete one."""
        self.study.tell(trial, value, state)
        self._save()


def make_sampler(sweep: Sweep, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the trial with this number."""
    seed = (sweep.seed + number) % 2**32
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def distribution(space: Range) -> optuna.distributions.BaseDistribution:
    """Return the values of a param, from its choices or its range, for Optuna."""
    if space.choices:
        return optuna.distributions.CategoricalDistribution(space.choices)
    is_whole = isinstance(space.low, int) and isinstance(space.high, int)
    kind = "IntDistribution" if is_whole else "FloatDistribution"
    return getattr(optuna.distributions, kind)(space.low, space.high, log=space.log)


def trial_params(proposed: dict, sweep: Sweep) -> dict:
    """Return params as a trial is run with: fractions with four digits, within their range.

    Their last bits come of logarithms, which NumPy computes otherwise by other instruction sets.
    """
    rounded = {}
    for name, value in proposed.items():
        space = sweep.space[name]
        if isinstance(value, float) and space.choices is None:
            value = min(max(float(f"{value:.4g}"), space.low), space.high)
        rounded[name] = value
    return rounded
