"""Run the experiments of experiments.yaml side by side and compare them: `make experiments`.

Each becomes a DVC experiment of its name, kept with the current commit. One that is there already,
from the same code and params, is not run again. It ends with a table, metrics/experiments.csv, and
a picture, plots/experiments.png; with `--group models`, of a group, with
metrics/experiments-models.csv and plots/experiments-models.png.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from fashion.environment import is_native_by_choice, is_x86_64, native_arithmetic
from fashion.errors import UserError, reported
from fashion.files import write_csv
from fashion.strict_yaml import parse_yaml, read_yaml
from stages.params import PARAMS
from tools.cluster import Cluster
from tools.config import EXPERIMENTS, ExperimentMap, Experiments, read_experiments, with_overrides
from tools.dvc import dvc
from tools.fsck import look_again
from tools.git import experiments as kept_experiments
from tools.git import git, head, same
from tools.results import Result, markdown
from tools.side_by_side import Experiment, only_one, run_side_by_side

# what makes the results, beside params.yaml
PIPELINE = ["dvc.yaml", "dataset.yaml", "stages", "fashion"]


def main() -> None:
    arguments = parse_arguments()
    config, values = read_experiments(), read_yaml(PARAMS)
    configured = group_of(config, arguments.group)
    suffix = f"-{arguments.group}" if arguments.group else ""
    chosen = choose(configured, arguments.only)
    planned = {}
    for name in chosen:
        planned |= with_seeds(name, configured[name], values, arguments.seeds)

    place = Cluster(arguments.ray, config.ray) if arguments.ray else None
    results = make_current(planned, values, arguments.jobs, place)
    if set(chosen) != set(configured):
        print(
            f"Only {', '.join(chosen)}: metrics/experiments{suffix}.csv and its picture"
            " are left as they were.\n"
        )
        return print(markdown(pd.DataFrame([result.summary() for result in results.values()])))
    save_comparison([results[name] for name in chosen], suffix)
    if arguments.seeds > 1:
        save_seeds(results, Path(f"metrics/seeds{suffix}.csv"))


def run_and_compare(config: Experiments) -> None:
    """Run those of the plain experiments that are not there yet.

    Then write and show their comparison.
    """
    results = make_current(config.experiments, read_yaml(PARAMS), jobs=None)
    save_comparison(list(results.values()))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="experiments", description=__doc__.split("\n")[0])
    parser.add_argument("--group", metavar="NAME", help="of this group, not the plain ones")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="run these, not all")
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=positive,
        default=1,
        help="run each with N seeds, from the one in params.yaml",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=positive,
        help="how many at a time; by default, as many as there are cores",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="run them on this Ray cluster, HOST:PORT")
    return parser.parse_args()


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


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
    name: str, overrides: dict[str, Any], values: dict, seeds: int
) -> dict[str, dict[str, Any]]:
    """Return the experiment, and the same with the seeds that follow its own.

    Their names are run-1, run-1-seed-43, run-1-seed-44 and so on.
    """
    first = with_overrides(values, overrides, f"{EXPERIMENTS}: {name}")["seed"]
    return {name: overrides} | {
        f"{name}-seed-{seed}": overrides | {"seed": seed}
        for seed in range(first + 1, first + seeds)
    }


def check_working_copy(commit: str) -> None:
    """Say so where the experiments are made from more than the commit.

    Raises UserError on code that they would not see.
    """
    untracked = git("ls-files", "--others", "--exclude-standard", "--", *PIPELINE).split()
    if untracked:
        raise UserError(
            f"Git does not track {', '.join(untracked)}, so experiments would run without."
            " `git add` it, or remove it"
        )
    changed = git("diff", "--name-only", "HEAD", "--", *PIPELINE, str(PARAMS)).split()
    if changed:
        print(
            f"Not committed: {', '.join(changed)}. The experiments run with these changes;"
            f" DVC keeps them with commit {commit[:7]} all the same."
            " Commit first if others are to find them with the code that made them."
        )


def make_current(
    planned: dict[str, dict[str, Any]], values: dict, jobs: int | None, place: Cluster | None = None
) -> dict[str, Result]:
    """Run those of the planned experiments that are not there yet; return all their results.

    One is there when it was made as code and params are now. `planned` has the params that each
    experiment sets, by its name; `values` is the params file that they start from.
    """
    with only_one():
        commit = head()
        check_working_copy(commit)
        kept, waiting = kept_experiments(commit), []
        for name, overrides in planned.items():
            if name in kept and is_current(kept[name], with_overrides(values, overrides, name)):
                print(f"{name}: up to date")
            else:
                waiting.append(Experiment(name, overrides, anew=is_native_by_choice()))
        if waiting:
            look_again()  # experiments get their data from DVC's cache
            # raw and prepared data are made once, and shared through DVC's cache
            dvc("repro", "prepare")
            if place:
                dvc("push")
            if head() != commit:
                raise UserError("the commit changed while the data was prepared. Run it again")
            epochs = {
                one.name: with_overrides(values, one.overrides, one.name)["train"]["epochs"]
                for one in waiting
            }
            waiting.sort(key=lambda one: -epochs[one.name])  # so that none is left alone at the end
            run_side_by_side(waiting, jobs, place=place)
            kept = kept_experiments(commit)
            cached = [one for one in waiting if not has_our_arithmetic(kept[one.name])]
            if cached:  # DVC had them in its run cache, which does not know the difference
                again = [Experiment(one.name, one.overrides, anew=True) for one in cached]
                run_side_by_side(again, jobs, place=place)
    kept = kept_experiments(commit)
    return {name: Result(name, kept[name]) for name in planned}


def is_current(revision: str, values: dict) -> bool:
    """Tell whether an experiment was made from the code as it is now.

    And from these params, and with the arithmetic chosen now.
    """
    before = parse_yaml(git("show", f"{revision}:{PARAMS}"))
    same_inputs = pipeline_params(before) == pipeline_params(values) and same(revision, *PIPELINE)
    return same_inputs and has_our_arithmetic(revision)


def has_our_arithmetic(revision: str) -> bool:
    """Tell whether an experiment was computed as this process would.

    That is portably, or as the user's environment variables say. Where there is no choice, on
    another machine than x86-64, all that is there will do.
    """
    recorded = json.loads(git("show", f"{revision}:metrics/train.json")).get("arithmetic")
    return not is_x86_64() or recorded == native_arithmetic()


def pipeline_code() -> str:
    """A fingerprint of the code that makes the results, as it is in the working copy."""
    trees, changes = (
        git("rev-parse", *(f"HEAD:{path}" for path in PIPELINE)),
        git("diff", "HEAD", "--", *PIPELINE),
    )
    return hashlib.sha256((trees + changes).encode()).hexdigest()


def pipeline_params(values: dict) -> dict:
    """The sections of a params file that stages read, as dvc.yaml declares."""
    stages = parse_yaml(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    sections = {param.split(".")[0] for stage in stages for param in stage.get("params", [])}
    return {name: value for name, value in values.items() if name in sections}


def save_comparison(results: list[Result], suffix: str = "") -> None:
    """Write the table and the picture, where they are not there already, and show the table."""
    path, picture = Path(f"metrics/experiments{suffix}.csv"), Path(f"plots/experiments{suffix}.png")
    before = path.read_bytes() if path.exists() else None
    write_csv(path, pd.DataFrame([result.summary() for result in results]))
    if path.read_bytes() != before or not picture.exists() or not same("HEAD", str(picture)):
        from fashion.figures import compare_losses, save_figure  # slow, so only where it is needed

        title = f"{results[0].data['name']}: loss on training and validation images"
        save_figure(
            compare_losses({result.name: result.history for result in results}, title), picture
        )
    print(f"\n{markdown(pd.read_csv(path))}\n\nTable: {path}, picture: {picture}")


def save_seeds(results: dict[str, Result], path: Path) -> None:
    rows = [
        {"experiment": name.split("-seed-")[0], "seed": result.params["seed"]}
        | dict(list(result.summary().items())[1:])
        for name, result in results.items()
    ]
    write_csv(path, pd.DataFrame(rows))
    print(
        f"\nMean and standard deviation over seeds:\n\n{markdown(pd.read_csv(path))}"
        f"\n\nTable: {path}"
    )


if __name__ == "__main__":
    with reported("experiments"):
        main()
