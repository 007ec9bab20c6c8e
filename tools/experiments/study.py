"""Keep the trials of a sweep: Optuna proposes them, and a file keeps the outcome of each.

Trials are numbered, and the sampler gets another seed for each number. So proposals depend only on
the sweep's seed and the ended trials, even if the sweep was stopped in between.
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
STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]  # of ended trials, best first


class SweepStudy:
    """Optuna's study of a sweep, with the trials of earlier calls.

    `conditions` must be equal for trials to be comparable. Raises UserError if the sweep began
    under others.
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
        if self.path.exists():
            try:
                saved = json.loads(self.path.read_bytes())
                self._restore(saved["conditions"], saved["trials"])
            except (ValueError, TypeError, KeyError):
                raise UserError(
                    f"{self.path} is corrupted, or from another version. Remove it to start the"
                    " sweep again: DVC has the results of its trials"
                ) from None

    def _restore(self, conditions: dict[str, Any], trials: list[dict]) -> None:
        other = [part for part in self.conditions if conditions.get(part) != self.conditions[part]]
        if other:
            raise UserError(
                f"the sweep {self.name} began with other {' and '.join(other)}, so its trials can't"
                f" be compared with new ones. Give it another name in {EXPERIMENTS}"
            )
        for trial in trials:
            state, epochs = TrialState[trial["state"]], trial["intermediate_values"]
            if state in STATES[:2]:
                trial |= {"state": state, "distributions": self.distributions}
                trial["intermediate_values"] = {int(epoch): epochs[epoch] for epoch in epochs}
                self.study.add_trial(optuna.trial.create_trial(**trial))
            else:  # it ran when the sweep was stopped, or failed, for example at a full disk
                self.study.enqueue_trial(trial["params"])

    def _save(self) -> None:
        trials = [
            {
                "state": trial.state.name,
                "params": trial.system_attrs.get("fixed_params", trial.params),  # if enqueued
                "value": trial.value,
                "intermediate_values": trial.intermediate_values,
            }
            for trial in self.trials
        ]
        with atomic_write(self.path) as path:
            path.write_text(json.dumps({"conditions": self.conditions, "trials": trials}))

    @property
    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number."""
        return self.study.get_trials(deepcopy=False)  # copying a thousand takes long

    @property
    def ranked(self) -> list[FrozenTrial]:
        """Return the ended trials, the best first: completed, then pruned, then failed ones."""
        sign = 1 if self.sweep.metric == "val_loss" else -1
        ended = [trial for trial in self.trials if trial.state in STATES]
        return sorted(ended, key=lambda t: (STATES.index(t.state), sign * (t.value or 0)))

    @property
    def best(self) -> FrozenTrial | None:
        """Return the best trial, or None if none has completed."""
        return next((trial for trial in self.ranked if trial.state == TrialState.COMPLETE), None)

    @property
    def is_complete(self) -> bool:
        return len(self.ranked) >= max(self.sweep.trials, len(self.trials))

    def experiment(self, trial: FrozenTrial | optuna.Trial) -> str:
        """Return the name of a trial's experiment."""
        return f"sweep-{self.name}-{trial.number:03d}"

    def overrides(self, trial: FrozenTrial | optuna.Trial) -> dict[str, Any]:
        """Return the params that a trial's experiment sets."""
        return self.sweep.fixed | trial_params(trial.params, self.sweep)

    def ask(self) -> optuna.Trial | None:
        """Return the next trial, with a value for each param, or None if the sweep has all.

        Trials of an earlier call that were stopped or failed come first.
        """
        is_waiting = any(trial.state == TrialState.WAITING for trial in self.trials)
        if len(self.trials) >= self.sweep.trials and not is_waiting:
            return None
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
    """Return proposed params as a trial runs with them: fractions rounded to four digits.

    Fractions stay within their range. Rounding hides the last bits of the logarithms, in which CPUs
    with other instruction sets differ.
    """
    rounded = {}
    for name, value in proposed.items():
        space = sweep.space[name]
        if isinstance(value, float) and space.choices is None:
            value = min(max(float(f"{value:.4g}"), space.low), space.high)
        rounded[name] = value
    return rounded
