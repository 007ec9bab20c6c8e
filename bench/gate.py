"""How often does `make check` cry wolf, and what does it miss?  `python -m bench.gate`

Trains the committed params with many seeds, and regressions of several kinds with some each, as
DVC experiments side by side, in a clone under .dvc/tmp that shares the cache. Those of the same
kind, in ever other orders, are then what a check would have run: of unchanged ones a regression is
a false alarm, of the others a detection. The baseline is metrics/noise.json.
"""

import argparse
import random
import shutil
import time
from contextlib import chdir
from pathlib import Path

import pandas as pd
from joblib import cpu_count

from fashion.errors import exit_on_user_error
from fashion.files import write_csv
from fashion.strict_yaml import read_yaml
from stages.params import PARAMS
from tools.arguments import positive_int
from tools.dvc import dvc, use_cache
from tools.experiments.backend import ExperimentSpec
from tools.experiments.runner import run_parallel
from tools.experiments.up_to_date import run_missing
from tools.fsck import cache_folder
from tools.gate.config import Gate
from tools.gate.noise import number_metrics
from tools.gate.rules import parse_rules, read_files
from tools.gate.sequential import REGRESSION, UNDECIDED, Look, compare, plan_looks, verdict
from tools.git import git, local_clone

CLONE, TABLE = Path(".dvc/tmp/bench-gate"), Path("metrics/gate.csv")
FIRST_SEED = 1000  # far from those that metrics/noise.json was measured with
CHECKS = 1000  # of each kind

PATCHES = Path(__file__).parent / "regressions"  # faults in the code, for `git apply`
PARAMS_KINDS = {  # faults that params make
    "1 epoch": {"train.epochs": 1},
    "2 epochs": {"train.epochs": 2},
    "learning rate 0.01": {"train.learning_rate": 0.01},
    "batch size 2048": {"train.batch_size": 2048},
    "dropout 0.5": {"model.dropout": 0.5},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="gate", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--unchanged",
        metavar="N",
        type=positive_int,
        default=30,
        help="seeds of the committed params",
    )
    parser.add_argument(
        "--changed", metavar="N", type=positive_int, default=10, help="seeds of each regression"
    )
    arguments = parser.parse_args()
    rules = parse_rules(read_files(None), "the workspace")
    baseline = rules.noise.table[list(rules.gate.metrics)]
    looks = plan_looks(baseline, rules.gate)
    # the same ones, with nothing changed, would give the baseline's bytes
    other_seeds = list(range(FIRST_SEED, FIRST_SEED + arguments.unchanged))
    make_clone()
    with chdir(CLONE):
        kinds = {"unchanged": {}} | PARAMS_KINDS
        kinds |= {path.stem.replace("-", " "): path for path in sorted(PATCHES.glob("*.patch"))}
        rows = []
        for kind, change in kinds.items():
            seeds = list(baseline.index[: arguments.changed]) if change else other_seeds
            runs, seconds = train(kind, change, seeds)
            rows.append(summary(kind, runs, baseline, looks, rules.gate, seconds))
    write_csv(TABLE, pd.DataFrame(rows))
    print(pd.DataFrame(rows).to_markdown(index=False), f"\n\nWritten: {TABLE}")


def make_clone() -> None:
    """Make a clone of the last commit, with our cache.

    Data is not made again, and a second call finds its runs there.
    """
    shutil.rmtree(CLONE, ignore_errors=True)
    local_clone(CLONE)
    use_cache(cache_folder(), CLONE)
    dvc("checkout", "--quiet", folder=CLONE)


def train(kind: str, change: dict | Path, seeds: list[int]) -> tuple[pd.DataFrame, float]:
    """Run one kind with several seeds; return the metrics, a row a run.

    And the seconds that a run takes, measured with as many as there are cores, side by side: these
    are trained again, whatever DVC's run cache has.

    `change` are params, or a patch, which is applied in a commit of its own.
    """
    git("checkout", "--quiet", "--force", "--detach", "origin/HEAD")
    overrides = change if isinstance(change, dict) else {}
    if isinstance(change, Path):
        git("apply", str(change))
    git(
        "-c",
        "user.name=bench",
        "-c",
        "user.email=bench@localhost",
        "commit",
        "--quiet",
        "--all",
        "--allow-empty",
        "-m",
        kind,
    )
    name = "".join(letter if letter.isalnum() else "-" for letter in kind)
    planned = {f"{name}-{seed}": overrides | {"seed": seed} for seed in seeds}
    print(f"{kind}: {len(planned)} runs", flush=True)
    results = run_missing(planned, read_yaml(PARAMS), cpu_count()).values()
    again = [
        ExperimentSpec(f"{name}-timed-{seed}", overrides | {"seed": seed}, retrain=True)
        for seed in seeds[: cpu_count()]
    ]
    started = time.monotonic()
    run_parallel(again, cpu_count())
    seconds = (time.monotonic() - started) / len(again)
    metrics = [number_metrics(result.train | result.test) for result in results]
    return pd.DataFrame(metrics, index=[result.params["seed"] for result in results]), seconds


def summary(
    kind: str,
    runs: pd.DataFrame,
    baseline: pd.DataFrame,
    looks: list[Look],
    gate: Gate,
    seconds: float,
) -> dict:
    """A row of the table: what `make check` says of a change of this kind, and what that costs.

    A check is a run that was committed and as many others as it asks for, in any order; a run takes
    `seconds`.
    """
    shuffled = random.Random(0)  # noqa: S311
    verdicts, runs_of, deciding = [], [], []
    for i in range(CHECKS):
        first = runs.index[i % len(runs)]
        others = [seed for seed in runs.index if seed != first]
        order = [first, *shuffled.sample(others, len(others))]
        for look in looks:
            found, metric = verdict(
                compare(baseline, runs.loc[order[: look.runs], list(gate.metrics)], gate), look
            )
            if found != UNDECIDED:
                break
        verdicts.append(found == REGRESSION)
        runs_of.append(min(look.runs, len(runs)))
        deciding += [metric.metric] if found == REGRESSION else []
    further = pd.Series(runs_of) - 1
    loss = baseline["accuracy"].mean() - runs["accuracy"].mean()
    return {
        "kind": kind,
        "runs": len(runs),
        "mean_accuracy": runs["accuracy"].mean(),
        "loss_of_accuracy": loss,
        "checks": CHECKS,
        "found": sum(verdicts),
        "mostly_by": pd.Series(deciding).mode()[0] if deciding else "",
        "further_runs_median": further.median(),
        "further_runs_mean": further.mean(),
        "further_runs_most": further.max(),
        "further_seconds_mean": further.mean() * seconds,
    }


if __name__ == "__main__":
    with exit_on_user_error("gate"):
        main()
