"""Rebuild a commit from the raw data and compare every output: `make verify`.

The commit's stages run in a clean clone, and then its experiments. Prints a table, output by
output. Exit status 0: all hashes are those in dvc.lock, and the numbers of experiments those in the
committed table; 3: some are not, but the metrics name another environment than the pinned packages
with portable arithmetic, and agree within the measured noise; 1: anything else. Nothing in the
workspace changes.
"""

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pandas as pd
from joblib import cpu_count

from fashion.core.errors import UserError
from fashion.core.files import read_csv
from tools.arguments import parser_of
from tools.dvc import resolve_revision
from tools.gate.config import gate_at
from tools.gate.noise import noise_at
from tools.gate.sequential import compare, plan_analyses
from tools.git import git, yaml_at
from tools.pipeline import Pipeline, clean_clone
from tools.process import command_line

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
    found, is_elsewhere = describe_difference(committed, rebuilt, different, len(rows))
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
    try:
        content = git("show", f"{commit}:{EXPERIMENTS}")
    except UserError:  # the commit has no table
        return []
    table = read_csv(io.StringIO(content), index_col="experiment")
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


def describe_difference(
    committed: dict[str, Any], rebuilt: dict[str, Any], different: int, outputs: int
) -> tuple[str, bool]:
    """Say that outputs differ from the committed ones, and whether the environment is why.

    `committed` and `rebuilt` are what the metrics say; "environment" is there if it was not the
    pinned packages with portable arithmetic.
    """
    found = f"{different} of {outputs} outputs differ from the committed ones"
    sides = {"committed": committed, "here": rebuilt}
    others = [f"{side}: {metrics.get('environment')}" for side, metrics in sides.items()]
    others = [text for text in others if not text.endswith(": None")]
    if others:
        return f"{found} because of the environment ({', '.join(others)}).", True
    return f"{found}, though both were made with the pinned packages: they should be equal.", False


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
    with command_line("verify"):
        sys.exit(main())
