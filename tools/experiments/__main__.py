"""Run the experiments of experiments.yaml side by side and compare them: `make experiments`.

Each becomes a DVC experiment of the same name, kept with the current commit. Up-to-date experiments
are skipped. The results are a table, metrics/comparisons/experiments.csv, and a plot,
plots/comparisons/experiments.png; those of a group have the group's name.
"""

import argparse
from typing import Any

import pandas as pd

from fashion.core.errors import UserError
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from tools.arguments import parser_of, positive_int
from tools.experiments.compare import experiments_table, save_comparison, save_seeds
from tools.experiments.config import EXPERIMENTS, PLAIN, lookup, read_experiments, shared_name
from tools.experiments.ray import RayBackend
from tools.experiments.up_to_date import run_missing
from tools.overrides import with_overrides
from tools.process import command_line


def main() -> None:
    arguments = parse_arguments()
    config, group = read_experiments(), arguments.group or PLAIN
    configured, place = config.experiments, str(EXPERIMENTS)
    if arguments.group:
        configured, place = lookup(config.groups, group, "group"), f"the group {group}"
    for name in arguments.only or []:
        lookup(configured, name, "experiment", place)
    chosen = [name for name in configured if name in (arguments.only or configured)]
    runs = {name: with_seeds(name, configured[name], arguments.seeds) for name in chosen}
    if name := shared_name([config.experiments, *config.groups.values(), *runs.values()]):
        raise UserError(f"{EXPERIMENTS}: {name} has the name of another's further seed")
    planned = {run: overrides for seeds in runs.values() for run, overrides in seeds.items()}
    backend = RayBackend(arguments.ray, config.ray) if arguments.ray else None
    results = run_missing(planned, arguments.jobs, backend, arguments.replace)
    if len(chosen) < len(configured):
        table = pd.DataFrame([result.summary() for result in results.values()])
        print(f"{experiments_table(table).to_string(index=False)}\n")
        return print(f"Only {', '.join(chosen)}: the table and the plot stay as they were.")
    save_comparison([results[name] for name in chosen], group)
    if arguments.seeds > 1:
        save_seeds({name: [results[run] for run in runs[name]] for name in chosen}, group)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of("experiments", __doc__)
    number = {"metavar": "N", "type": positive_int}
    group = "run this group instead of the plain experiments"
    parser.add_argument("--group", metavar="NAME", help=group)
    parser.add_argument("--only", metavar="NAME", nargs="+", help="run only these")
    seeds = "run each with N seeds, starting from the one in params.yaml"
    parser.add_argument("--seeds", **number, default=1, help=seeds)
    parser.add_argument("--jobs", **number, help="how many at a time; by default, one per core")
    replace = "let uncommitted changes replace the commit's experiments"
    parser.add_argument("--replace", action="store_true", help=replace)
    parser.add_argument("--ray", metavar="ADDRESS", help="run them on this Ray cluster, HOST:PORT")
    return parser.parse_args()


def with_seeds(name: str, overrides: dict[str, Any], seeds: int) -> dict[str, dict[str, Any]]:
    """Return the experiment with its own seed and with those that follow, by name.

    The names are run-1, run-1-seed-43, run-1-seed-44 and so on.
    """
    first = with_overrides(read_yaml(PARAMS), overrides, f"{EXPERIMENTS}: {name}")["seed"]
    further = range(first + 1, first + seeds)
    return {name: overrides} | {
        f"{name}-seed-{seed}": overrides | {"seed": seed} for seed in further
    }


if __name__ == "__main__":
    with command_line("experiments"):
        main()
