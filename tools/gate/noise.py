"""Measure how much each metric varies over seeds while nothing else changes: `make noise`.

The committed params are run with several seeds, side by side, as DVC experiments; mean and standard
deviation of every metric go into metrics/noise.json, with the params and the environment that they
hold for. `check` takes its tolerances from there.
"""

import argparse
from pathlib import Path

import pandas as pd
from joblib import cpu_count

from fashion.errors import exit_on_user_error
from fashion.files import write_json
from fashion.strict_yaml import read_yaml
from stages.dataset import DATASET
from stages.params import PARAMS
from tools.arguments import positive_int, two_or_more
from tools.dvc import dvc
from tools.experiments.results import Result
from tools.experiments.up_to_date import pipeline_params, run_missing

NOISE = Path("metrics/noise.json")
SEEDS = 10  # so many, unless told otherwise
OF_THE_RUN = ("model_md5", "settings")  # in an environment's record


def main() -> None:
    parser = argparse.ArgumentParser(prog="noise", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seeds", metavar="N", type=two_or_more, default=SEEDS, help=f"how many (default: {SEEDS})"
    )
    parser.add_argument(
        "--jobs", metavar="N", type=positive_int, default=cpu_count(), help="how many at a time"
    )
    arguments = parser.parse_args()
    values = read_yaml(PARAMS)
    seeds = range(values["seed"], values["seed"] + arguments.seeds)
    results = run_missing(
        {f"noise-seed-{seed}": {"seed": seed} for seed in seeds}, values, arguments.jobs
    )
    write_json(NOISE, describe(list(results.values()), values))
    # their numbers are kept; as experiments they would only be in the way
    dvc("exp", "remove", *results)
    print(NOISE.read_text())


def describe(results: list[Result], values: dict) -> dict:
    """Return the content of metrics/noise.json.

    Mean and sample standard deviation of each metric, and what they hold for.
    """
    metrics = pd.DataFrame([number_metrics(result) for result in results])
    return {
        "runs": len(results),
        "seeds": [result.params["seed"] for result in results],
        "metrics": {
            name: {"mean": column.mean(), "std": column.std()} for name, column in metrics.items()
        },
        "params": conditions(values, read_yaml(DATASET)),
        "environment": {
            name: value for name, value in results[0].environment.items() if name not in OF_THE_RUN
        },
    } | results[0].arithmetic


def conditions(params: dict, dataset: dict) -> dict:
    """Return what noise is measured for: all params but the seed, and the data's files."""
    files = {role: file["sha256"] for role, file in dataset["files"].items()}
    sections = {name: value for name, value in pipeline_params(params).items() if name != "seed"}
    return sections | {"dataset": {"name": dataset["name"], "sha256": files}}


def number_metrics(result: Result) -> dict[str, float]:
    """All metrics of a run that are numbers, by name."""
    return {
        name: float(value)
        for name, value in (result.train | result.test).items()
        if isinstance(value, int | float)
    }


if __name__ == "__main__":
    with exit_on_user_error("noise"):
        main()
