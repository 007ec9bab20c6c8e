"""Search for good params: `make sweep`. Optuna proposes, DVC runs.

Each trial of the `sweep` section of params.yaml is a DVC experiment, sweep-NAME-000 and so on, judged on the validation
split alone. A sweep that was stopped goes on where it was; with one job and the same seed it proposes the same trials. It
ends with a table, metrics/sweep-NAME.csv, and a picture, plots/sweep-NAME.png.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd

from fashion.errors import UserError, reported
from fashion.files import write_csv
from stages.params import PARAMS, read_values
from tools.cluster import Cluster
from tools.dvc import dvc
from tools.experiments import check_working_copy, is_current, pipeline_code, pipeline_params, positive
from tools.fsck import look_again
from tools.git import experiments as kept_experiments
from tools.git import head
from tools.params import Range, Sweep, read_tool_params, with_overrides, write_params
from tools.results import Result
from tools.side_by_side import Experiment, only_one, run_side_by_side, stop

STORAGE = Path(".dvc/tmp/sweeps.sqlite")
COMPLETE, PRUNED, FAILED = (optuna.trial.TrialState[name] for name in ("COMPLETE", "PRUNED", "FAIL"))
SHOWN = 5  # best trials
WARM_UP = 1 / 3  # share of the epochs before which no trial is ended


class Trials:
    """The trials of one sweep: what Optuna proposes next, and what came of each."""

    def __init__(self, sweep: Sweep, values: dict):
        self.sweep, self.values = sweep, values
        self.study = open_study(sweep, values)
        self.running: dict[str, optuna.Trial] = {}
        self.resumed = [trial.number for trial in self.study.get_trials(states=[optuna.trial.TrialState.RUNNING])]

    def experiments(self) -> Iterator[Experiment]:
        """Those that were under way when the sweep was stopped, then new ones, each proposed when its turn comes."""
        while trial := self.next():
            name = f"sweep-{self.sweep.name}-{trial.number:03d}"
            overrides = self.sweep.fixed | trial.params
            revision = kept_experiments(head()).get(name)
            if revision and is_current(revision, with_overrides(self.values, overrides, name)):
                self.finish(name, trial)  # stopped after its end, but before that was noted
                continue
            self.running[name] = trial
            yield Experiment(name, overrides)

    def next(self) -> optuna.Trial | None:
        if self.resumed:
            number = self.resumed.pop(0)
            return optuna.Trial(self.study, self.study.trials[number]._trial_id)
        if len(self.study.trials) >= self.sweep.trials:
            return None
        self.study.sampler = sampler(self.sweep, number=len(self.study.trials))
        trial = self.study.ask()
        for name, space in self.sweep.space.items():
            suggest(trial, name, space)
        return trial

    def watch(self, experiment: Experiment) -> None:
        """Tell Optuna of each epoch and of the end; end a trial that is not worth going on with."""
        trial = self.running.get(experiment.name)
        if trial is None:
            return
        seen = len(self.study.trials[trial.number].intermediate_values)
        for epoch, values in enumerate(experiment.curve[seen:], seen + 1):
            trial.report(values[self.sweep.metric], epoch)
            if self.sweep.prune and epoch < experiment.epochs and trial.should_prune():
                return self.give_up(experiment, trial)
        if experiment.running:
            return
        del self.running[experiment.name]
        if experiment.failed:
            self.study.tell(trial.number, state=FAILED)
        else:
            self.finish(experiment.name, trial)

    def give_up(self, experiment: Experiment, trial: optuna.Trial) -> None:
        experiment.given_up = True
        stop([experiment])
        self.study.tell(trial.number, state=PRUNED)
        del self.running[experiment.name]

    def finish(self, name: str, trial: optuna.Trial) -> None:
        result = Result(name, kept_experiments(head())[name])
        self.study.tell(trial.number, result.train[self.sweep.metric])


def main() -> None:
    parser = argparse.ArgumentParser(prog="sweep", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--jobs", metavar="N", type=positive, help="trials at a time; by default, as many as there are cores"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="run the trials on this Ray cluster, HOST:PORT")
    parser.add_argument("--apply", action="store_true", help="write the best trial's params into params.yaml")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    tool_params, values = read_tool_params(), read_values()
    sweep = tool_params.sweep
    if sweep is None:
        raise UserError(f"{PARAMS} has no section sweep, which says what to search for")
    for params in ends_of(sweep):
        with_overrides(values, params, f"{PARAMS}: sweep")  # or refuse them
    place = Cluster(arguments.ray, tool_params.ray) if arguments.ray else None
    with only_one():
        check_working_copy(head())
        trials = Trials(sweep, values)
        if trials.resumed or len(trials.study.trials) < sweep.trials:
            look_again()
            dvc("repro", "prepare")
            if place:
                dvc("push")
        try:
            run_side_by_side(trials.experiments(), arguments.jobs, trials.watch, place)
        finally:
            if any(trial.state == COMPLETE for trial in trials.study.trials):
                show(trials.study, sweep, values["data"]["name"])
    if arguments.apply:
        best = sweep.fixed | trials.study.best_params
        write_params(best)
        print(f"\nWritten to {PARAMS}: {json.dumps(best)}. `dvc repro` makes its results.")


def ends_of(sweep: Sweep) -> Iterator[dict]:
    """Params of trials at the ends of the space: one after the other, each param takes its other values."""
    first = {name: space.choices[0] if space.choices else space.low for name, space in sweep.space.items()}
    yield sweep.fixed | first
    for name, space in sweep.space.items():
        yield from (sweep.fixed | first | {name: value} for value in space.choices or [space.high])


def open_study(sweep: Sweep, values: dict) -> optuna.Study:
    """The sweep's study, with what has been tried. Raises UserError where that was with other code, params or space."""
    STORAGE.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{STORAGE}",
        study_name=sweep.name,
        direction="minimize" if sweep.metric == "val_loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=round(WARM_UP * epochs_of(sweep, values))),
        load_if_exists=True,
    )
    belongs_to = {
        "code": pipeline_code(),
        "params": pipeline_params(with_overrides(values, next(ends_of(sweep)), "sweep")),
        "sweep": sweep.model_dump(mode="json", exclude={"name", "trials"}),
    }
    found = study.user_attrs.get("belongs_to", belongs_to)
    other = [name for name in belongs_to if found[name] != belongs_to[name]]
    if other:
        raise UserError(
            f"the sweep {sweep.name} was begun with other {' and '.join(other)}, and its trials can't be compared with new"
            f" ones. Give another name: sweep.name in {PARAMS}"
        )
    study.set_user_attr("belongs_to", belongs_to)
    return study


def epochs_of(sweep: Sweep, values: dict) -> int:
    return sweep.fixed.get("train.epochs", values["train"]["epochs"])


def sampler(sweep: Sweep, number: int) -> optuna.samplers.BaseSampler:
    """One for each trial: what it proposes follows from the seed, the trial's number and the trials that have ended."""
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


def table_of(study: optuna.Study, sweep: Sweep) -> pd.DataFrame:
    """A row for each trial that has ended, the best first; a trial that was ended early has its last epoch's value."""
    rows = [
        {
            "trial": f"sweep-{sweep.name}-{trial.number:03d}",
            "state": trial.state.name.lower(),
            "epochs": max(trial.intermediate_values, default=0),
            sweep.metric: trial.value,
        }
        | trial.params
        for trial in study.get_trials(states=[COMPLETE, PRUNED, FAILED])
    ]
    for row in rows:  # as they stand in params.yaml, all digits
        row |= {name: json.dumps(row[name]) for name in sweep.space if isinstance(row.get(name), float)}
    best_first = pd.DataFrame(rows).sort_values(sweep.metric, ascending=sweep.metric == "val_loss", kind="stable")
    order = {"complete": 0, "pruned": 1, "fail": 2}
    return best_first.sort_values("state", key=lambda states: states.map(order), kind="stable")


def show(study: optuna.Study, sweep: Sweep, data: str) -> None:
    """Print the best trials and how much each param mattered; write the table and the picture."""
    table = table_of(study, sweep)
    path, picture = Path(f"metrics/sweep-{sweep.name}.csv"), Path(f"plots/sweep-{sweep.name}.png")
    write_csv(path, table)
    print(f"\n{table.head(SHOWN).to_markdown(index=False)}\n")
    counts = table["state"].value_counts()
    print(", ".join(f"{counts.get(state, 0)} {word}" for state, word in STATES.items()))
    whole = table[table["state"] == "complete"]
    shares = dict.fromkeys(sweep.space, 0.0)
    if whole[sweep.metric].nunique() > 1:
        shares |= optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
        print(f"How much of {sweep.metric} each param explains:", *(f"{name} {share:.0%}" for name, share in shares.items()))
    from fashion.figures import parallel_coordinates, save_figure

    logarithmic = {name for name, space in sweep.space.items() if space.log}
    title = f"{data}: sweep {sweep.name}, {len(whole)} trials run to the end"
    save_figure(parallel_coordinates(whole, sweep.metric, logarithmic, shares, title), picture)
    print(f"Table: {path}, picture: {picture}")


STATES = {"complete": "run to the end", "pruned": "ended early", "fail": "failed"}

if __name__ == "__main__":
    with reported("sweep"):
        main()
