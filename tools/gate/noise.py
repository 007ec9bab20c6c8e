"""Measure how much the metrics vary over seeds while nothing else changes: `make noise`.

Trains the committed params with many seeds, side by side, as DVC experiments; every metric of every
run goes into metrics/noise.json, with the params and the environment that they hold for. `check`
judges changes by it: commit it with the results that it belongs to. `--reference` writes it into
metrics/reference.json as well, from where it stays as it is: what slow decline is seen against.
"""

import argparse
import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from joblib import cpu_count
from pydantic import Field, FiniteFloat, model_validator

from fashion.errors import UserError, exit_on_user_error
from fashion.files import write_json
from fashion.strict_yaml import Name, StrictModel, check_config, read_yaml
from stages.dataset import DATASET
from stages.params import PARAMS, Seed
from tools.arguments import positive_int, two_or_more
from tools.dvc import dvc
from tools.experiments.results import Result
from tools.experiments.up_to_date import pipeline_params, run_missing

NOISE, REFERENCE = Path("metrics/noise.json"), Path("metrics/reference.json")
SEEDS = 30  # so many, unless told otherwise
OF_THE_RUN = ("model_md5", "settings")  # in an environment's record


class Noise(StrictModel):
    """metrics/noise.json."""

    seeds: Annotated[list[Seed], Field(min_length=2)]
    metrics: dict[Name, list[FiniteFloat]]  # of the run with each seed, in this order
    params: dict[str, Any]  # that they hold for, and the data
    environment: dict[str, Any]
    arithmetic: str | None = None  # where it was not the portable one

    @model_validator(mode="after")
    def _is_complete(self) -> "Noise":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed stands there twice")
        for name, values in self.metrics.items():
            if len(values) != len(self.seeds):
                raise ValueError(
                    f"metrics.{name} has {len(values)} values for {len(self.seeds)} seeds"
                )
        return self

    @property
    def table(self) -> pd.DataFrame:
        """Return the metrics, a row a run, its seed as index."""
        return pd.DataFrame(self.metrics, index=pd.Index(self.seeds, name="seed"))


def parse_noise(text: str | bytes, source: str) -> Noise:
    """Check the content of a metrics/noise.json. Raises UserError naming `source` and the key."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UserError(f"{source}: not JSON: {error}. `make noise` measures it again") from None
    return check_config(content, source, Noise)


def main() -> None:
    parser = argparse.ArgumentParser(prog="noise", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seeds", metavar="N", type=two_or_more, default=SEEDS, help=f"how many (default: {SEEDS})"
    )
    parser.add_argument(
        "--jobs", metavar="N", type=positive_int, default=cpu_count(), help="how many at a time"
    )
    parser.add_argument(
        "--reference", action="store_true", help=f"write it into {REFERENCE} as well"
    )
    arguments = parser.parse_args()
    values = read_yaml(PARAMS)
    seeds = range(values["seed"], values["seed"] + arguments.seeds)
    results = run_missing(
        {f"noise-seed-{seed}": {"seed": seed} for seed in seeds}, values, arguments.jobs
    )
    content = describe(list(results.values()), values)
    for path in (NOISE, REFERENCE) if arguments.reference else (NOISE,):
        write_json(path, content)
    # their numbers are kept; as experiments they would only be in the way
    dvc("exp", "remove", *results)
    table = Noise.model_validate(content).table.agg(["mean", "std"]).T
    print(f"{table.to_markdown(floatfmt='.4f')}\n\nWritten: {NOISE}, of {len(results)} runs")


def describe(results: list[Result], values: dict) -> dict:
    """Return the content of metrics/noise.json: each metric of each run, what they hold for."""
    metrics = pd.DataFrame([number_metrics(result.train | result.test) for result in results])
    return {
        "seeds": [result.params["seed"] for result in results],
        "metrics": metrics.to_dict("list"),
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


def number_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """Return those metrics of a run that are numbers, by name."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


if __name__ == "__main__":
    with exit_on_user_error("noise"):
        main()
