"""Run the experiments of experiments.yaml side by side and compare them: `make experiments`.

Each becomes a DVC experiment of its name, kept with the current commit. One that is there already,
from the same code and params, is not run again. It ends with a table, metrics/experiments.csv, and
a picture, plots/experiments.png; with `--group models`, of a group, with
metrics/experiments-models.csv and plots/experiments-models.png.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from tools.arguments import positive_int
from tools.experiments.compare import save_comparison, save_seeds
from tools.experiments.config import EXPERIMENTS, ExperimentMap, Experiments, read_experiments
from tools.experiments.ray import RayBackend
from tools.experiments.results import markdown
from tools.experiments.up_to_date import run_missing
from tools.overrides import with_overrides


def main() -> None:
    arguments = parse_arguments()
    config, raw_params = read_experiments(), read_yaml(PARAMS)
    configured = group_of(config, arguments.group)
    suffix = f"-{arguments.group}" if arguments.group else ""
    chosen = choose(configured, arguments.only)
    planned = {}
    for name in chosen:
        planned |= with_seeds(name, configured[name], raw_params, arguments.seeds)

    backend = RayBackend(arguments.ray, config.ray) if arguments.ray else None
    results = run_missing(planned, raw_params, arguments.jobs, backend, replace=arguments.replace)
    if set(chosen) != set(configured):
        print(
            f"Only {', '.join(chosen)}: metrics/experiments{suffix}.csv and its picture"
            " are left as they were.\n"
        )
        return print(markdown(pd.DataFrame([result.summary() for result in results.values()])))
    save_comparison([results[name] for name in chosen], suffix)
    if arguments.seeds > 1:
        save_seeds(results, Path(f"metrics/seeds{suffix}.csv"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="experiments", description=__doc__.split("\n")[0])
    parser.add_argument("--group", metavar="NAME", help="of this group, not the plain ones")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="run these, not all")
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=positive_int,
        default=1,
        help="run each with N seeds, from the one in params.yaml",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive_int,
        help="how many at a time; by default, as many as there are cores",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace the commit's experiments by those of what is not committed",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="run them on this Ray cluster, HOST:PORT")
    return parser.parse_args()


def group_of(config: Experiments, group: str | None) -> ExperimentMap:
    """The experiments of a group, or the plain ones.

    Raises UserError on a group that is not there.
    """
    if group is None:
        return config.experiments
    if group not in config.groups:
        there = ", ".join(config.groups) or "none"
        raise UserError(f"no group {group} in {EXPERIMENTS}: groups. There are: {there}")
    return config.groups[group]


def choose(configured: dict[str, dict], only: list[str] | None) -> list[str]:
    """Return the names to run, in their order in the file.

    Raises UserError on one that is not there.
    """
    unknown = set(only or []) - configured.keys()
    if unknown:
        raise UserError(
            f"no experiment {', '.join(sorted(unknown))} in {EXPERIMENTS}. There are:"
            f" {', '.join(configured)}"
        )
    return [name for name in configured if not only or name in only]


def with_seeds(
    name: str, overrides: dict[str, Any], raw_params: dict, seeds: int
) -> dict[str, dict[str, Any]]:
    """Return the experiment, and the same with the seeds that follow its own.

    Their names are run-1, run-1-seed-43, run-1-seed-44 and so on.
    """
    first = with_overrides(raw_params, overrides, f"{EXPERIMENTS}: {name}")["seed"]
    return {name: overrides} | {
        f"{name}-seed-{seed}": overrides | {"seed": seed}
        for seed in range(first + 1, first + seeds)
    }


if __name__ == "__main__":
    with exit_on_user_error("experiments"):
        main()
