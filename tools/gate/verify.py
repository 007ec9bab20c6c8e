"""Rebuild a commit from the raw data and compare every output: `make verify`.

Runs the commit's stages in a clean clone, then its experiments, and prints a table with a line per
output. Exit status 0: all outputs have the hashes in dvc.lock, and all experiments the numbers in
the committed table. 3: some differ, but the metrics name another environment than the pinned
packages with portable arithmetic, and agree within the measured noise. 1: anything else. Nothing in
the workspace changes.
"""

import io
import sys
from typing import Any

import pandas as pd

from fashion.core.errors import UserError
from fashion.core.files import read_csv
from tools.arguments import parser_of
from tools.dvc import resolve_revision
from tools.gate.noise import OUTLIER, noise_at
from tools.git import file_at, yaml_at
from tools.pipeline import Pipeline, clean_clone
from tools.process import command_line
from tools.tables import markdown

EXPERIMENTS = "metrics/comparisons/experiments.csv"
VERDICTS = {True: "✓ equal", False: "✗ different"}
WITHIN_NOISE = 3  # exit status


def main() -> int:
    parser = parser_of("verify", __doc__)
    parser.add_argument(
        "revision", metavar="REV", nargs="?", default="HEAD", help="commit, branch or tag"
    )
    revision = parser.parse_args().revision
    commit = resolve_revision(revision)
    name = f"{revision} ({commit[:7]})"
    with clean_clone("verify", commit) as pipeline:
        print(f"Running all stages and experiments of {name} from the raw data", flush=True)
        committed, changed = pipeline.metrics(), pipeline.rebuild()
        rows = [(str(out), stage.name) for stage in pipeline.stages for out in stage.outputs]
        rows = [(out, stage, VERDICTS[out not in changed]) for out, stage in rows]
        rows += compare_experiments(commit, pipeline)
        rebuilt = pipeline.metrics()
    table = pd.DataFrame(rows, columns=["output", "stage", "verdict"])
    print(f"\n{markdown(table, disable_numparse=True)}\n")
    different = int((table["verdict"] == VERDICTS[False]).sum())
    if not different:
        print(f"{name}: all {len(rows)} outputs are equal to the byte.")
        return 0
    found, is_elsewhere = describe_difference(committed, rebuilt, different, len(rows))
    exceeding = beyond_noise(commit, committed, rebuilt) if is_elsewhere else []
    if exceeding:
        found += f" Noise does not explain these differences: {'; '.join(exceeding)}."
    elif is_elsewhere:
        found += " The metrics agree within noise."
    print(f"{name}: {found}")
    return WITHIN_NOISE if is_elsewhere and not exceeding else 1


def compare_experiments(commit: str, pipeline: Pipeline) -> list[tuple[str, str, str]]:
    """Run the experiments of experiments.yaml in copies of a clone.

    Returns a row for each metric in the committed table: title, "(experiments)", verdict.
    """
    try:
        content = file_at(commit, EXPERIMENTS).decode()
    except UserError:  # the commit has no table
        return []
    table = read_csv(io.StringIO(content), index_col="experiment")
    planned = yaml_at(commit, "experiments.yaml")["experiments"]
    names = [name for name in planned if name in table.index]
    stages = [*pipeline.data_stages, pipeline.model_stage, *pipeline.scoring_stages]
    measured = pipeline.variants([planned[name] for name in names], stages, Pipeline.metrics)
    return [
        (f"{column} of {name}", "(experiments)", VERDICTS[committed == metrics[column]])
        for name, metrics in zip(names, measured, strict=True)
        for column, committed in table.loc[name].items()
        if column in metrics
    ]


def describe_difference(
    committed: dict[str, Any], rebuilt: dict[str, Any], different: int, outputs: int
) -> tuple[str, bool]:
    """Return a sentence about outputs that differ, and whether the environment is the reason.

    `committed` and `rebuilt` are the metrics of both sides. They have the key "environment" if they
    were not computed by the pinned packages with portable arithmetic.
    """
    found = f"{different} of {outputs} outputs differ from the committed ones"
    sides = {"committed": committed.get("environment"), "here": rebuilt.get("environment")}
    others = [f"{side}: {environment}" for side, environment in sides.items() if environment]
    if others:
        return f"{found} because of the environment ({', '.join(others)}).", True
    return f"{found}, though the pinned packages computed both: they should be equal.", False


def beyond_noise(commit: str, committed: dict[str, Any], rebuilt: dict[str, Any]) -> list[str]:
    """Return the metrics that differ by more than OUTLIER standard deviations over seeds.

    Raises UserError if the commit has no noise.
    """
    noise = noise_at(commit)
    limits = OUTLIER * noise[[name for name in noise if name in committed]].std()
    return [
        f"{name}: {committed[name]:.4f} -> {rebuilt[name]:.4f}, by chance at most {limit:.4f}"
        for name, limit in limits.items()
        if abs(rebuilt[name] - committed[name]) > limit
    ]


if __name__ == "__main__":
    with command_line("verify"):
        sys.exit(main())
