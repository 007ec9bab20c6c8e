"""Rebuild a commit from the raw data and compare every output: `make verify`.

The commit's stages run in a clean clone, and then its experiments. Prints a table, output by
output. Exit status 0: all hashes are those in dvc.lock, and the numbers of experiments those in the
committed table; 3: some are not, but the machine or its packages are not the recorded ones, and all
metrics agree within the measured noise; 1: anything else. Nothing in the workspace changes.
"""

import argparse
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pandas as pd
from joblib import cpu_count

from fashion.core.errors import UserError, exit_on_user_error
from fashion.model.environment import describe_environment
from tools.dvc import resolve_revision
from tools.gate.config import gate_at
from tools.gate.noise import noise_at
from tools.gate.sequential import compare, plan_analyses
from tools.git import git, yaml_at
from tools.pipeline import Pipeline, clean_clone

ENVIRONMENT, EXPERIMENTS = "metrics/environment.json", "metrics/comparisons/experiments.csv"
VERDICTS = {True: "✓ equal", False: "✗ different"}
WITHIN_NOISE = 3  # exit status
NOT_BYTES = ("INTEROP_THREADS", "OMP_NUM_THREADS", "model_md5")  # settings that change none


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="verify", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument(
        "revision", metavar="REV", nargs="?", default="HEAD", help="commit, branch or tag"
    )
    revision = parser.parse_args().revision
    commit = resolve_revision(revision)
    name = f"{revision} ({commit[:7]})"
    with clean_clone("verify", commit) as pipeline:
        print(f"Running all stages and experiments of {name} from the raw data", flush=True)
        committed = pipeline.metrics(pipeline.folder)
        pipeline.run(pipeline.stages)
        changed = pipeline.differences()
        rows = [(str(out), stage.name) for stage in pipeline.stages for out in stage.outputs]
        rows = [(out, stage, VERDICTS[out not in changed]) for out, stage in rows]
        rows += compare_experiments(commit, pipeline)
        rebuilt = pipeline.metrics(pipeline.folder)
    table = pd.DataFrame(rows, columns=["output", "stage", "verdict"])
    print(f"\n{table.to_markdown(index=False, disable_numparse=True)}\n")
    different = int((table["verdict"] == VERDICTS[False]).sum())
    if not different:
        print(f"{name}: all {len(rows)} outputs are equal to the byte.")
        return 0
    found, is_elsewhere = describe_difference(commit, different, len(rows))
    exceeding = beyond_noise(commit, committed, rebuilt) if is_elsewhere else []
    if exceeding:
        found += f" By more than noise explains: {'; '.join(exceeding)}."
    elif is_elsewhere:
        found += " The metrics agree within noise."
    print(f"{name}: {found}")
    return WITHIN_NOISE if is_elsewhere and not exceeding else 1


def compare_experiments(commit: str, pipeline: Pipeline) -> list[tuple[str, str, str]]:
    """Run the experiments of experiments.yaml in copies of a clone.

    Returns a row for each metric in the committed table: title, "(experiments)", verdict.
    """
    content = git("show", f"{commit}:{EXPERIMENTS}")
    table = pd.read_csv(io.StringIO(content), index_col="experiment")
    planned = yaml_at(commit, "experiments.yaml")["experiments"]

    def run(name: str) -> list[tuple[str, str, str]]:
        with pipeline.variant(planned[name], pipeline.scoring_stages) as folder:
            metrics = pipeline.metrics(folder)
        return [
            (f"{column} of {name}", "(experiments)", VERDICTS[committed == metrics[column]])
            for column, committed in table.loc[name].items()
            if column in metrics
        ]

    with ThreadPoolExecutor(cpu_count()) as pool:
        found = pool.map(run, [name for name in planned if name in table.index])
        return list(chain.from_iterable(found))


def describe_difference(commit: str, different: int, outputs: int) -> tuple[str, bool]:
    """Say that outputs differ from the committed ones, and whether the environment does, too."""
    found = f"{different} of {outputs} outputs differ from the committed ones"
    if other := other_environment(commit):
        return f"{found} because of the machine or its packages ({'; '.join(other)}).", True
    return f"{found}, though the environment is the recorded one: they should be equal.", False


def other_environment(commit: str) -> list[str]:
    """Return what differs between the recorded environment and this one and may change bytes."""
    try:
        recorded = json.loads(git("show", f"{commit}:{ENVIRONMENT}"))
    except UserError:
        return ["not recorded"]
    both = pd.json_normalize([recorded, describe_environment()]).astype(object).T
    return [
        f"{name}: {before} -> {now}"
        for name, before, now in both.itertuples()
        if str(before) != str(now) and not name.endswith(NOT_BYTES)
    ]


def beyond_noise(commit: str, committed: dict[str, Any], rebuilt: dict[str, Any]) -> list[str]:
    """Return the gated metrics that differ by more than chance explains.

    Raises UserError where the commit has no noise.
    """
    gate, noise = gate_at(commit), noise_at(commit).table
    noise = noise[[name for name in gate.rules_by_column(noise) if name in committed]]
    change = pd.Series({name: rebuilt[name] - committed[name] for name in noise})
    analysis, *_ = plan_analyses(noise, gate.interim_runs, gate)
    return [
        f"{row.metric}: {committed[row.metric]:.4f} -> {rebuilt[row.metric]:.4f}, by chance at most"
        f" {row.chance:.4f}"
        for row in compare(noise, (noise.mean() + change).to_frame().T, gate, analysis)
        if row.is_worse or row.is_better
    ]


if __name__ == "__main__":
    with exit_on_user_error("verify"):
        sys.exit(main())
