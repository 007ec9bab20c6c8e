"""Search for good params: `make sweep`. Optuna proposes, DVC runs.

Each trial of a sweep in experiments.yaml is a DVC experiment, sweep-NAME-000 and so on, judged on
the validation split alone. A stopped sweep resumes where it was; with one job, the same seed gives
the same trials. The results are a table, metrics/sweeps/NAME.csv, a plot, plots/sweeps/NAME.png,
and a row in metrics/sweeps.csv, which compares sweeps.
"""

import argparse
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState

from fashion.core.errors import UserError
from fashion.core.files import read_csv, write_csv
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from tools.arguments import parser_of
from tools.dvc import list_experiments, resolve_revision
from tools.experiments.backend import Backend, ExperimentSpec
from tools.experiments.config import EXPERIMENTS, Sweep, lookup, read_experiments
from tools.experiments.local import LocalBackend
from tools.experiments.ray import RayBackend
from tools.experiments.results import TRIAL, Result
from tools.experiments.runner import ExperimentRun, experiments_lock, run_parallel
from tools.experiments.study import STATES, SweepStudy, trial_params
from tools.experiments.up_to_date import check_workspace, inputs_at, is_up_to_date, prepare_data
from tools.overrides import with_overrides, write_params
from tools.process import command_line

SUMMARY = Path("metrics/sweeps.csv")
SHOWN_TRIALS = 5  # the best


class Trials:
    """Passes Optuna's proposals to the runner, and their outcomes to Optuna."""

    def __init__(self, study: SweepStudy, backend: Backend, raw_params: dict):
        self.study, self.sweep, self.backend = study, study.sweep, backend
        self.raw_params = raw_params
        self.started: dict[str, optuna.Trial] = {}  # by the name of the experiment

    def specs(self) -> Iterator[ExperimentSpec]:
        """Yield an experiment for each trial, proposed when there is room for it."""
        while trial := self.study.ask():
            name, overrides = self.study.experiment(trial), self.study.overrides(trial)
            self.started[name] = trial
            params = with_overrides(self.raw_params, overrides, name)
            inputs = inputs_at(self.backend.workspace, params)
            if is_up_to_date(self.backend.commit, name, inputs):
                self._complete(name)  # the sweep was killed before it noted the trial's end
            else:
                yield ExperimentSpec(name, overrides, message=TRIAL)

    def should_prune(self, run: ExperimentRun) -> bool:
        """Report new epochs and the end of a run to Optuna. Return whether to end the run early."""
        trial = self.started[run.spec.name]
        for row in run.history:
            is_new = self.study.report(trial, row["epoch"], row[self.sweep.metric])
            goes_on = run.state == "running" and row["epoch"] < run.epochs
            if is_new and goes_on and self.sweep.prune and trial.should_prune():
                self.study.end(trial, TrialState.PRUNED)
                return True
        if run.state == "completed":
            self._complete(run.spec.name)
        elif run.state == "failed":
            self.study.end(trial, TrialState.FAIL)
        return False

    def _complete(self, name: str) -> None:
        trial = self.started[name]
        result = Result(name, list_experiments(self.backend.commit)[name])
        # the log has no epochs if DVC's run cache had the result
        for row in result.history.to_dict("records"):
            self.study.report(trial, row["epoch"], row[self.sweep.metric])
        self.study.end(trial, TrialState.COMPLETE, result.train[self.sweep.metric])


def main() -> None:
    arguments = parse_arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    config, raw_params = read_experiments(), read_yaml(PARAMS)
    name = arguments.name or next(iter(config.sweeps), "at all")
    sweep = lookup(config.sweeps, name, "sweep")
    params = check_space(sweep, raw_params, f"{EXPERIMENTS}: sweeps.{name}")
    ray = RayBackend(arguments.ray, config.ray) if arguments.ray else None
    with experiments_lock():
        check_workspace()
        backend = ray or LocalBackend()
        conditions = inputs_at(backend.workspace, params) | {
            "sweep": sweep.model_dump(mode="json", exclude={"trials", "jobs"}),
        }
        study, failure = SweepStudy(name, sweep, params["train"]["epochs"], conditions), None
        try:
            if not study.is_complete:
                prepare_data()
                trials = Trials(study, backend, raw_params)
                run_parallel(trials.specs(), backend, sweep.jobs, trials.should_prune)
        except UserError as error:  # such as failed trials; the others may have a best one
            failure = error
        finally:
            if study.best:
                save_results(study)
    if arguments.apply and study.best:
        apply_best(study)
    if failure:
        raise failure


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("sweep", __doc__)
    parser.add_argument("--name", help="a sweep of experiments.yaml; by default, the first")
    ray = "run the trials on this Ray cluster, HOST:PORT"
    parser.add_argument("--ray", metavar="ADDRESS", help=ray)
    apply = "write the best trial's params into params.yaml"
    parser.add_argument("--apply", action="store_true", help=apply)
    return parser.parse_args()


def check_space(sweep: Sweep, raw_params: dict, source: str) -> dict:
    """Return the params of a trial at one end of the space.

    Raises UserError naming `source` if a choice, or either end of a range, is not allowed.
    """
    values = {name: space.choices or [space.low, space.high] for name, space in sweep.space.items()}
    first = sweep.fixed | {name: ends[0] for name, ends in values.items()}
    for name, ends in values.items():
        for value in ends:
            with_overrides(raw_params, first | {name: value}, source)
    return with_overrides(raw_params, first, source)


def apply_best(study: SweepStudy) -> None:
    """Write the params of the best trial into the params file."""
    params = study.overrides(study.best)
    write_params(params)
    print(f"\nWritten to {PARAMS}: {json.dumps(params)}. `dvc repro` makes its results.")


def save_results(study: SweepStudy) -> None:
    """Write the tables and the plot; print the best trials and how much each param matters."""
    name, metric, table = study.name, study.sweep.metric, table_of(study)
    path, plot = Path(f"metrics/sweeps/{name}.csv"), Path(f"plots/sweeps/{name}.png")
    exact = {param: table[param].map(json.dumps) for param in study.sweep.space}  # all digits
    write_csv(path, table.assign(**exact))
    print(f"\n{table.iloc[:SHOWN_TRIALS, :4].to_string(index=False)}\n")
    print(f"Params of the best: {json.dumps(study.overrides(study.best))}")
    counts = Counter(trial.state for trial in study.ranked)
    print("{} completed, {} pruned, {} failed".format(*(counts[state] for state in STATES)))
    shares = param_importances(study)
    if any(shares.values()):
        explained = ", ".join(f"{param} {share:.0%}" for param, share in shares.items())
        print(f"Share of the differences in {metric} that each param explains: {explained}")
    from fashion.comparisons import parallel_coordinates  # slow
    from fashion.plots.figures import save_figure

    trial = study.experiment(study.best)
    try:
        best = Result(trial, resolve_revision(trial))
    except UserError as error:
        raise UserError(f"{error}. To run the sweep again, remove {study.path}") from None
    completed = table[table["state"] == "complete"]
    logarithmic = {param for param, space in study.sweep.space.items() if space.log}
    # two lines, since a single param makes a narrow plot
    title = f"{best.data['name']}: sweep {name}\n{len(completed)} completed trials"
    save_figure(parallel_coordinates(completed, metric, logarithmic, shares, title), plot)
    if study.is_complete:
        save_summary(best, table, name)
    print(f"Table: {path}, plot: {plot}")


def table_of(study: SweepStudy) -> pd.DataFrame:
    """Return a row for each ended trial, the best first. A pruned trial has its last value."""
    return pd.DataFrame(
        {
            "trial": study.experiment(trial),
            "state": trial.state.name.lower(),
            "epochs": max(trial.intermediate_values, default=0),
            study.sweep.metric: trial.value,
        }
        | trial_params(trial.params, study.sweep)
        for trial in study.ranked
    )


def param_importances(study: SweepStudy) -> dict[str, float]:
    """Return the share of the metric's variance that each param explains, in [0, 1].

    By functional analysis of variance (Hutter et al. 2014); 0 if trials do not differ.
    """
    shares = dict.fromkeys(study.sweep.space, 0.0)
    if len({trial.value for trial in study.ranked if trial.state == TrialState.COMPLETE}) > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares |= optuna.importance.get_param_importances(study.study, evaluator=evaluator)
    return shares


def save_summary(best: Result, table: pd.DataFrame, name: str) -> None:
    """Write the row of this sweep, with its best trial, into the table of all sweeps."""
    row = {
        "sweep": name,
        "trials": len(table),
        "pruned": int((table["state"] == "pruned").sum()),
        "epochs": int(table["epochs"].sum()),
        "best_trial": best.name,
        "val_accuracy": best.train["val_accuracy"],
        "val_loss": best.train["val_loss"],
        "accuracy": best.test["accuracy"],
    } | best.environment
    others = read_csv(SUMMARY).query("sweep != @name") if SUMMARY.exists() else None
    write_csv(SUMMARY, pd.concat([others, pd.DataFrame([row])]).sort_values("sweep"))


if __name__ == "__main__":
    with command_line("sweep"):
        main()
