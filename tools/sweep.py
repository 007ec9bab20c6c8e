"""Search for good params: `make sweep`. Optuna proposes, DVC runs.

Each trial of a sweep in experiments.yaml is a DVC experiment, sweep-NAME-000 and so on, judged on
the validation split alone. A sweep that was stopped goes on where it was; with one job and the same
seed it proposes the same trials. It ends with a table, metrics/sweep-NAME.csv, a picture,
plots/sweep-NAME.png, and a row in metrics/sweeps.csv, which compares sweeps.
"""

import argparse
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import optuna
import pandas as pd

from fashion.environment import is_native_by_choice, native_arithmetic
from fashion.errors import UserError, reported
from fashion.files import write_csv
from fashion.strict_yaml import read_yaml
from stages.params import PARAMS
from tools.cluster import Cluster
from tools.config import (
    EXPERIMENTS,
    Range,
    Sweep,
    read_experiments,
    with_overrides,
    write_params,
)
from tools.dvc import dvc
from tools.experiments import check_working_copy, is_current, pipeline_code, pipeline_params
from tools.fsck import look_again
from tools.git import experiments as kept_experiments
from tools.git import head, resolve
from tools.results import Result
from tools.side_by_side import Experiment, only_one, run_side_by_side, stop

SUMMARY = Path("metrics/sweeps.csv")
STORAGE = Path(".dvc/tmp/sweeps.sqlite")
COMPLETE, PRUNED, FAILED = (
    optuna.trial.TrialState[name] for name in ("COMPLETE", "PRUNED", "FAIL")
)
SHOWN = 5  # best trials
WARM_UP = 1 / 3  # share of the epochs before which no trial is ended


class Trials:
    """The trials of one sweep: what Optuna proposes next, and what came of each."""

    def __init__(self, name: str, sweep: Sweep, values: dict):
        self.name, self.sweep, self.values = name, sweep, values
        self.study = open_study(name, sweep, values)
        self.running: dict[str, optuna.Trial] = {}
        self.resumed = [
            trial.number
            for trial in self.study.get_trials(states=[optuna.trial.TrialState.RUNNING])
        ]

    def experiments(self) -> Iterator[Experiment]:
        """Yield those that were under way when the sweep was stopped, then new ones.

        Each is proposed when its turn comes.
        """
        while trial := self.next():
            name = experiment_name(self.name, trial.number)
            overrides = self.sweep.fixed | tried(trial.params, self.sweep)
            revision = kept_experiments(head()).get(name)
            if revision and is_current(revision, with_overrides(self.values, overrides, name)):
                self.finish(name, trial)  # stopped after its end, but before that was noted
                continue
            self.running[name] = trial
            yield Experiment(name, overrides, anew=is_native_by_choice())

    @property
    def known(self) -> list[optuna.trial.FrozenTrial]:
        # to copy them takes long where there are a thousand
        return self.study.get_trials(deepcopy=False)

    def next(self) -> optuna.Trial | None:
        if self.resumed:
            number = self.resumed.pop(0)
            return optuna.Trial(self.study, self.known[number]._trial_id)
        number = len(self.known)
        if number >= self.sweep.trials:
            return None
        self.study.sampler = sampler(self.sweep, number)
        trial = self.study.ask()
        for name, space in self.sweep.space.items():
            suggest(trial, name, space)
        return trial

    def watch(self, experiment: Experiment) -> None:
        """Tell Optuna of each epoch and of the end; end a trial that is not worth going on with."""
        trial = self.running.get(experiment.name)
        if trial is None:
            return
        for epoch in self.report(trial, [values[self.sweep.metric] for values in experiment.curve]):
            if self.sweep.prune and epoch < experiment.epochs and trial.should_prune():
                return self.give_up(experiment, trial)
        if experiment.running:
            return
        del self.running[experiment.name]
        if experiment.failed:
            self.study.tell(trial.number, state=FAILED)
        else:
            self.finish(experiment.name, trial)

    def report(self, trial: optuna.Trial, values: Iterable[float]) -> Iterator[int]:
        """Tell Optuna the metric after each epoch that it does not know yet.

        And give the number of each as it is told.
        """
        seen = len(self.known[trial.number].intermediate_values)
        for epoch, value in enumerate(values, 1):
            if epoch > seen:
                trial.report(value, epoch)
                yield epoch

    def give_up(self, experiment: Experiment, trial: optuna.Trial) -> None:
        experiment.given_up = True
        stop([experiment])
        self.study.tell(trial.number, state=PRUNED)
        del self.running[experiment.name]

    def finish(self, name: str, trial: optuna.Trial) -> None:
        result = Result(name, kept_experiments(head())[name])
        # where DVC had it in its cache, there was no log
        list(self.report(trial, result.history[self.sweep.metric]))
        self.study.tell(trial.number, result.train[self.sweep.metric])


def main() -> None:
    parser = argparse.ArgumentParser(prog="sweep", description=__doc__.split("\n")[0])
    parser.add_argument("--name", help="which sweep of experiments.yaml; by default, the first")
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="run the trials on this Ray cluster, HOST:PORT"
    )
    parser.add_argument(
        "--apply", action="store_true", help="write the best trial's params into params.yaml"
    )
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    config, values = read_experiments(), read_yaml(PARAMS)
    name, sweep = choose(config.sweeps, arguments.name)
    for end in ends_of(sweep):
        with_overrides(values, end, f"{EXPERIMENTS}: sweeps.{name}")  # or refuse them
    place = Cluster(arguments.ray, config.ray) if arguments.ray else None
    with only_one():
        check_working_copy(head())
        trials = Trials(name, sweep, values)
        if trials.resumed or len(trials.known) < sweep.trials:
            look_again()
            dvc("repro", "prepare")
            if place:
                dvc("push")
        try:
            run_side_by_side(trials.experiments(), sweep.jobs, trials.watch, place)
        finally:
            if any(trial.state == COMPLETE for trial in trials.known):
                show(trials.study, name, sweep)
    if arguments.apply:
        apply_best(trials.study, sweep)


def choose(configured: dict[str, Sweep], name: str | None) -> tuple[str, Sweep]:
    """Name and definition of a sweep. Raises UserError on one that is not there."""
    name = name or next(iter(configured), "at all")
    if name not in configured:
        raise UserError(
            f"there is no sweep {name} in {EXPERIMENTS}: sweeps. There are:"
            f" {', '.join(configured) or 'none'}"
        )
    return name, configured[name]


def apply_best(study: optuna.Study, sweep: Sweep) -> None:
    if not any(trial.state == COMPLETE for trial in study.trials):
        raise UserError("no trial has been run to the end, so there is no best one to apply")
    best = sweep.fixed | tried(study.best_params, sweep)
    write_params(best)
    print(f"\nWritten to {PARAMS}: {json.dumps(best)}. `dvc repro` makes its results.")


def ends_of(sweep: Sweep) -> Iterator[dict]:
    """Return params of trials at the ends of the space.

    One after the other, each param takes its other values.
    """
    first = {
        name: space.choices[0] if space.choices else space.low
        for name, space in sweep.space.items()
    }
    yield sweep.fixed | first
    for name, space in sweep.space.items():
        yield from (sweep.fixed | first | {name: value} for value in space.choices or [space.high])


def experiment_name(sweep: str, number: int) -> str:
    return f"sweep-{sweep}-{number:03d}"


def open_study(name: str, sweep: Sweep, values: dict) -> optuna.Study:
    """The sweep's study, with what has been tried.

    Raises UserError where that was with other code, params or space.
    """
    STORAGE.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{STORAGE}",
        study_name=name,
        direction="minimize" if sweep.metric == "val_loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(
            n_warmup_steps=round(WARM_UP * epochs_of(sweep, values))
        ),
        load_if_exists=True,
    )
    belongs_to = {
        "code": pipeline_code(),
        "params": pipeline_params(with_overrides(values, next(ends_of(sweep)), "sweep")),
        "sweep": sweep.model_dump(mode="json", exclude={"trials", "jobs"}),
        "arithmetic": native_arithmetic(),
    }
    found = study.user_attrs.get("belongs_to", belongs_to)
    other = [name for name in belongs_to if found.get(name) != belongs_to[name]]
    if other:
        raise UserError(
            f"the sweep {name} was begun with other {' and '.join(other)}, and its trials"
            " can't be compared with new ones."
            f" Give it another name in {EXPERIMENTS}"
        )
    study.set_user_attr("belongs_to", belongs_to)
    return study


def epochs_of(sweep: Sweep, values: dict) -> int:
    return sweep.fixed.get("train.epochs", values["train"]["epochs"])


def sampler(sweep: Sweep, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a trial, one for each.

    What it proposes follows from the seed, the trial's number and the trials that have ended.
    """
    seed = (sweep.seed + number) % 2**32
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def suggest(trial: optuna.Trial, name: str, space: Range) -> None:
    if space.choices:
        trial.suggest_categorical(name, space.choices)
    elif isinstance(space.low, int) and isinstance(space.high, int):
        trial.suggest_int(name, space.low, space.high, log=space.log)
    else:
        trial.suggest_float(name, space.low, space.high, log=space.log)


def tried(params: dict, sweep: Sweep) -> dict:
    """Return params as a trial is run with.

    Fractions are as Optuna proposes them, but with four digits, within their range. Their last bits
    come of logarithms, which NumPy computes otherwise by other instruction sets.
    """
    rounded = {}
    for name, value in params.items():
        space = sweep.space[name]
        if isinstance(value, float) and space.choices is None:
            value = min(max(float(f"{value:.4g}"), space.low), space.high)
        rounded[name] = value
    return rounded


def table_of(study: optuna.Study, name: str, sweep: Sweep) -> pd.DataFrame:
    """Return a row for each trial that has ended, the best first.

    A trial that was ended early has its last epoch's value.
    """
    rows = [
        {
            "trial": experiment_name(name, trial.number),
            "state": trial.state.name.lower(),
            "epochs": max(trial.intermediate_values, default=0),
            sweep.metric: trial.value,
        }
        | tried(trial.params, sweep)
        for trial in study.get_trials(states=[COMPLETE, PRUNED, FAILED])
    ]
    best_first = pd.DataFrame(rows).sort_values(
        sweep.metric, ascending=sweep.metric == "val_loss", kind="stable"
    )
    order = {"complete": 0, "pruned": 1, "fail": 2}
    return best_first.sort_values("state", key=lambda states: states.map(order), kind="stable")


def show(study: optuna.Study, name: str, sweep: Sweep) -> None:
    """Print the best trials and how much each param mattered; write the tables and the picture."""
    table = table_of(study, name, sweep)
    path, picture = Path(f"metrics/sweep-{name}.csv"), Path(f"plots/sweep-{name}.png")
    # with all digits
    write_csv(path, table.assign(**{param: table[param].map(json.dumps) for param in sweep.space}))
    print(f"\n{table.head(SHOWN).to_markdown(index=False)}\n")
    counts = table["state"].value_counts()
    print(", ".join(f"{counts.get(state, 0)} {word}" for state, word in STATES.items()))
    whole = table[table["state"] == "complete"]
    shares = dict.fromkeys(sweep.space, 0.0)
    if whole[sweep.metric].nunique() > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares |= optuna.importance.get_param_importances(study, evaluator=evaluator)
        explained = ", ".join(f"{param} {share:.0%}" for param, share in shares.items())
        print(f"Each param explains of the differences in {sweep.metric}: {explained}")
    # slow, so only where it is needed
    from fashion.figures import parallel_coordinates, save_figure

    logarithmic = {param for param, space in sweep.space.items() if space.log}
    # two lines: a single param makes a narrow picture
    data = json.loads(Path("metrics/data.json").read_bytes())["name"]
    title = f"{data}: sweep {name}\n{len(whole)} trials run to the end"
    save_figure(parallel_coordinates(whole, sweep.metric, logarithmic, shares, title), picture)
    if len(table) >= sweep.trials:
        save_summary(table, name)
    print(f"Table: {path}, picture: {picture}")


def save_summary(table: pd.DataFrame, name: str) -> None:
    """Put a row for this sweep into the table of all.

    The test images were looked at for the best trial alone.
    """
    # the best trial may be of an earlier commit
    best = Result(table["trial"].iloc[0], resolve(table["trial"].iloc[0]))
    row = {
        "sweep": name,
        "trials": len(table),
        "ended_early": int((table["state"] == "pruned").sum()),
        "epochs": int(table["epochs"].sum()),
        "best_trial": best.name,
        "val_accuracy": best.train["val_accuracy"],
        "val_loss": best.train["val_loss"],
        "accuracy": best.test["accuracy"],
    } | best.arithmetic
    others = pd.read_csv(SUMMARY).query("sweep != @name") if SUMMARY.exists() else None
    write_csv(SUMMARY, pd.concat([others, pd.DataFrame([row])]).sort_values("sweep"))


STATES = {"complete": "run to the end", "pruned": "ended early", "fail": "failed"}

if __name__ == "__main__":
    with reported("sweep"):
        main()
