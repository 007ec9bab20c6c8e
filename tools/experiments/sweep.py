"""Search for good params: `make sweep`. Optuna proposes, DVC runs.

Each trial of a sweep in experiments.yaml is a DVC experiment, sweep-NAME-000 and so on, judged on
the validation split alone. A sweep that was stopped goes on where it was; with one job and the same
seed it proposes the same trials. It ends with a table, metrics/sweep-NAME.csv, a picture,
plots/sweep-NAME.png, and a row in metrics/sweeps.csv, which compares sweeps.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
from optuna.trial import TrialState

from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.files import write_csv
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from fashion.model.environment import is_native_by_choice, native_arithmetic
from tools.experiments.backend import ExperimentSpec
from tools.experiments.config import EXPERIMENTS, Sweep, read_experiments
from tools.experiments.ray import RayBackend
from tools.experiments.results import Result
from tools.experiments.run import ExperimentRun, State
from tools.experiments.runner import experiments_lock, prune, run_parallel
from tools.experiments.study import (
    EXPERIMENT,
    ask,
    list_trials,
    open_study,
    report_epochs,
    requeue_interrupted,
    trial_params,
)
from tools.experiments.up_to_date import (
    check_working_copy,
    is_up_to_date,
    pipeline_code,
    pipeline_params,
    prepare_data,
)
from tools.git import head, list_experiments, resolve_revision
from tools.overrides import with_overrides, write_params

SUMMARY = Path("metrics/sweeps.csv")
SHOWN_TRIALS = 5  # the best
STATES = {"complete": "completed", "pruned": "pruned", "fail": "failed"}  # Optuna's, for people


class SweepRunner:
    """Runs a sweep: hands Optuna's proposals to the runner, and Optuna what comes of them."""

    def __init__(self, name: str, sweep: Sweep, raw_params: dict):
        self.name, self.sweep, self.raw_params = name, sweep, raw_params
        first = with_overrides(raw_params, next(boundary_params(sweep)), f"sweep {name}")
        conditions = {
            "code": pipeline_code(),
            "params": pipeline_params(first),
            "sweep": sweep.model_dump(mode="json", exclude={"trials", "jobs"}),
            "arithmetic": native_arithmetic(),
        }
        self.study = open_study(name, sweep, first["train"]["epochs"], conditions)
        self.running: dict[str, optuna.Trial] = {}
        self.reported: dict[str, int] = {}  # epochs

    @property
    def is_complete(self) -> bool:
        states = [trial.state for trial in list_trials(self.study).values()]
        return len(states) >= self.sweep.trials and all(state.is_finished() for state in states)

    def specs(self) -> Iterator[ExperimentSpec]:
        """Yield an experiment for each trial, proposed when its turn comes."""
        requeue_interrupted(self.study)
        while trial := ask(self.study, self.name, self.sweep):
            name = trial.user_attrs[EXPERIMENT]
            overrides = self.sweep.fixed | trial_params(trial.params, self.sweep)
            self.running[name], self.reported[name] = trial, 0
            if is_up_to_date(head(), name, with_overrides(self.raw_params, overrides, name)):
                self.complete(name)  # stopped after its end, but before that was noted
            else:
                yield ExperimentSpec(name, overrides, retrain=is_native_by_choice())

    def watch(self, run: ExperimentRun) -> None:
        """Tell Optuna of each epoch and of the end; prune a trial that is not worth its time."""
        name = run.spec.name
        trial = self.running[name]
        for epoch in self.report(name, [row[self.sweep.metric] for row in run.history]):
            if self._should_prune(run, epoch):
                prune(run)
                break
        if run.state is State.COMPLETED:
            self.complete(name)
        elif run.state is State.PRUNED:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif run.state is State.FAILED:
            self.study.tell(trial, state=TrialState.FAIL)

    def _should_prune(self, run: ExperimentRun, epoch: int) -> bool:
        """Whether a run that goes on for more than this epoch should not."""
        goes_on = run.state is State.RUNNING and epoch < run.epochs
        return self.sweep.prune and goes_on and self.running[run.spec.name].should_prune()

    def report(self, name: str, values: list[float]) -> Iterator[int]:
        for epoch in report_epochs(self.running[name], values, self.reported[name]):
            self.reported[name] = epoch
            yield epoch

    def complete(self, name: str) -> None:
        result = Result(name, list_experiments(head())[name])
        # where DVC had it in its cache, there was no log
        list(self.report(name, result.history[self.sweep.metric].tolist()))
        self.study.tell(self.running[name], result.train[self.sweep.metric])


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
    config, raw_params = read_experiments(), read_yaml(PARAMS)
    name, sweep = choose(config.sweeps, arguments.name)
    for boundary in boundary_params(sweep):
        with_overrides(raw_params, boundary, f"{EXPERIMENTS}: sweeps.{name}")  # or refuse them
    backend = RayBackend(arguments.ray, config.ray) if arguments.ray else None
    with experiments_lock():
        check_working_copy()
        runner = SweepRunner(name, sweep, raw_params)
        if not runner.is_complete:
            prepare_data(backend)
        try:
            run_parallel(runner.specs(), sweep.jobs, runner.watch, backend)
        finally:
            if has_completed(runner.study):
                save_results(runner.study, name, sweep)
    if arguments.apply:
        apply_best(runner.study, sweep)


def choose(configured: dict[str, Sweep], name: str | None) -> tuple[str, Sweep]:
    """Name and definition of a sweep. Raises UserError on one that is not there."""
    name = name or next(iter(configured), "at all")
    if name not in configured:
        raise UserError(
            f"there is no sweep {name} in {EXPERIMENTS}: sweeps. There are:"
            f" {', '.join(configured) or 'none'}"
        )
    return name, configured[name]


def boundary_params(sweep: Sweep) -> Iterator[dict]:
    """Yield params of trials at the ends of the space.

    One after the other, each param takes its other values.
    """
    first = {
        name: space.choices[0] if space.choices else space.low
        for name, space in sweep.space.items()
    }
    yield sweep.fixed | first
    for name, space in sweep.space.items():
        yield from (sweep.fixed | first | {name: value} for value in space.choices or [space.high])


def has_completed(study: optuna.Study) -> bool:
    return any(trial.state == TrialState.COMPLETE for trial in list_trials(study).values())


def apply_best(study: optuna.Study, sweep: Sweep) -> None:
    """Write the params of the best trial into the params file."""
    if not has_completed(study):
        raise UserError("no trial has completed, so there is no best one to apply")
    best = sweep.fixed | trial_params(study.best_params, sweep)
    write_params(best)
    print(f"\nWritten to {PARAMS}: {json.dumps(best)}. `dvc repro` makes its results.")


def table_of(study: optuna.Study, sweep: Sweep) -> pd.DataFrame:
    """Return a row for each trial that has ended, the best first.

    A pruned trial has its last epoch's value.
    """
    rows = [
        {
            "trial": name,
            "state": trial.state.name.lower(),
            "epochs": max(trial.intermediate_values, default=0),
            sweep.metric: trial.value,
        }
        | trial_params(trial.params, sweep)
        for name, trial in list_trials(study).items()
        if trial.state.is_finished()
    ]
    best_first = pd.DataFrame(rows).sort_values(
        sweep.metric, ascending=sweep.metric == "val_loss", kind="stable"
    )
    order = list(STATES)
    return best_first.sort_values(
        "state", key=lambda states: states.map(order.index), kind="stable"
    )


def save_results(study: optuna.Study, name: str, sweep: Sweep) -> None:
    """Write the tables and the picture; show the best trials and how much each param mattered."""
    table = table_of(study, sweep)
    path, picture = Path(f"metrics/sweep-{name}.csv"), Path(f"plots/sweep-{name}.png")
    # with all digits
    write_csv(path, table.assign(**{param: table[param].map(json.dumps) for param in sweep.space}))
    print(f"\n{table.head(SHOWN_TRIALS).to_markdown(index=False)}\n")
    counts = table["state"].value_counts()
    print(", ".join(f"{counts.get(state, 0)} {word}" for state, word in STATES.items()))
    importances = param_importances(study, table, sweep)
    if any(importances.values()):
        explained = ", ".join(f"{param} {share:.0%}" for param, share in importances.items())
        print(f"Each param explains of the differences in {sweep.metric}: {explained}")
    # slow, so only where it is needed
    from fashion.figures import parallel_coordinates, save_figure

    completed = table[table["state"] == "complete"]
    logarithmic = {param for param, space in sweep.space.items() if space.log}
    # two lines: a single param makes a narrow picture
    data = json.loads(Path("metrics/data.json").read_bytes())["name"]
    title = f"{data}: sweep {name}\n{len(completed)} completed trials"
    figure = parallel_coordinates(completed, sweep.metric, logarithmic, importances, title)
    save_figure(figure, picture)
    if len(table) >= sweep.trials:
        save_summary(table, name)
    print(f"Table: {path}, picture: {picture}")


def param_importances(study: optuna.Study, table: pd.DataFrame, sweep: Sweep) -> dict[str, float]:
    """Return the share of the metric's variance that each param explains, in [0, 1].

    By functional analysis of variance (Hutter et al. 2014); 0 where trials do not differ.
    """
    shares = dict.fromkeys(sweep.space, 0.0)
    if table.loc[table["state"] == "complete", sweep.metric].nunique() > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares |= optuna.importance.get_param_importances(study, evaluator=evaluator)
    return shares


def save_summary(table: pd.DataFrame, name: str) -> None:
    """Put a row for this sweep into the table of all.

    The test images were looked at for the best trial alone.
    """
    # the best trial may be of an earlier commit
    best = Result(table["trial"].iloc[0], resolve_revision(table["trial"].iloc[0]))
    row = {
        "sweep": name,
        "trials": len(table),
        "pruned": int((table["state"] == "pruned").sum()),
        "epochs": int(table["epochs"].sum()),
        "best_trial": best.name,
        "val_accuracy": best.train["val_accuracy"],
        "val_loss": best.train["val_loss"],
        "accuracy": best.test["accuracy"],
    } | best.arithmetic
    others = pd.read_csv(SUMMARY).query("sweep != @name") if SUMMARY.exists() else None
    write_csv(SUMMARY, pd.concat([others, pd.DataFrame([row])]).sort_values("sweep"))


if __name__ == "__main__":
    with exit_on_user_error("sweep"):
        main()
