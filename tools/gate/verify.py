"""Rebuild a commit from the raw data and compare every output: `make verify`.

The commit's stages run in a clean clone, and then its experiments. Prints a table, output by
output. Exit status 0: all hashes are those in dvc.lock, and the numbers of experiments those in the
committed table; 3: some are not, but the machine or its packages are not the recorded ones, and all
metrics agree within the measured noise; 1: anything else. Nothing in the workspace changes.
"""

import argparse
import io
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from joblib import cpu_count

from fashion.core.errors import exit_on_user_error
from fashion.model.environment import describe_environment
from tools.gate.config import gate_at
from tools.gate.noise import noise_at
from tools.git import git, resolve_revision, yaml_at
from tools.pipeline import Pipeline, clean_clone

ENVIRONMENT, EXPERIMENTS = "metrics/environment.json", "metrics/experiments.csv"
METRICS = ("metrics/train.json", "metrics/test.json")
EQUAL, DIFFERENT = "✓ equal", "✗ different"
WITHIN_NOISE = 3  # exit status
NOT_BYTES = ("INTEROP_THREADS", "OMP_NUM_THREADS", "model_md5")  # settings that change none

# what is compared: the committed and the rebuilt value of a metric, by a title
Pairs = dict[str, tuple[str, float, float | None]]


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
        pipeline.run(pipeline.stages)
        rows = output_rows(pipeline)
        pairs = read_pairs(commit, pipeline.folder)
        experiments = rebuild_experiments(commit, pipeline)
    rows += [
        {"output": title, "stage": "(experiments)", "verdict": EQUAL if old == new else DIFFERENT}
        for title, (_, old, new) in experiments.items()
    ]
    print(f"\n{pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)}\n")
    different = sum(row["verdict"] != EQUAL for row in rows)
    if not different:
        print(f"{name}: all {len(rows)} outputs are equal to the byte.")
        return 0
    status, why = explain_difference(commit, different, len(rows), pairs | experiments)
    print(f"{name}: {why}")
    return status


def output_rows(pipeline: Pipeline) -> list[dict[str, str]]:
    """Return a row for each output of a clone in which all stages have run."""
    different = pipeline.differences()
    return [
        {
            "output": str(path),
            "stage": stage.name,
            "verdict": DIFFERENT if str(path) in different else EQUAL,
        }
        for stage in pipeline.stages
        for path in stage.outputs
    ]


def read_pairs(commit: str, folder: Path = Path()) -> Pairs:
    """Return the metrics of a commit and those in a folder in which its stages have run."""
    pairs = {}
    for path in METRICS:
        old = json.loads(git("show", f"{commit}:{path}"))
        new = json.loads((folder / path).read_text())
        pairs |= {name: (name, value, new.get(name)) for name, value in old.items()}
    return pairs


def rebuild_experiments(commit: str, pipeline: Pipeline) -> Pairs:
    """Run the experiments of experiments.yaml in copies of a clone; return their metrics.

    Each is compared with its row in the committed table.
    """
    content = git("show", f"{commit}:{EXPERIMENTS}")
    table = pd.read_csv(io.StringIO(content), index_col="experiment")
    planned = yaml_at(commit, "experiments.yaml")["experiments"]

    def run(name: str) -> Pairs:
        with pipeline.variant(planned[name], pipeline.scoring_stages) as folder:
            metrics = pipeline.metrics(folder)
        columns = table.columns.intersection(list(metrics))
        return {
            f"{column} of {name}": (column, table.loc[name, column], metrics[column])
            for column in columns
        }

    with ThreadPoolExecutor(cpu_count()) as pool:
        found = list(pool.map(run, [name for name in planned if name in table.index]))
    return {title: pair for pairs in found for title, pair in pairs.items()}


def other_environment(commit: str) -> dict[str, tuple]:
    """Return what differs between the recorded environment and this one, (recorded, here) by name.

    Settings that change no bytes are left out.
    """
    recorded = json.loads(git("show", f"{commit}:{ENVIRONMENT}"))
    before, now = (
        pd.json_normalize(values).iloc[0] for values in (recorded, describe_environment())
    )
    names = before.index.union(now.index, sort=False)
    return {
        name: (before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name) and not name.endswith(NOT_BYTES)
    }


def explain_difference(commit: str, different: int, outputs: int, pairs: Pairs) -> tuple[int, str]:
    """Return an exit status and a sentence on outputs that differ from the committed ones.

    Raises UserError where the commit has no record of its environment, or no noise.
    """
    found = f"{different} of {outputs} outputs differ from the committed ones"
    other = other_environment(commit)
    if not other:
        return 1, (
            f"{found}, though the environment is the recorded one, where every byte should be"
            " equal."
        )
    changes = "; ".join(f"{name}: {before} -> {now}" for name, (before, now) in other.items())
    found += f" because of the machine or its packages ({changes})"
    if exceeding := beyond_noise(commit, pairs):
        return 1, f"{found}, and by more than noise explains: {'; '.join(exceeding)}."
    return WITHIN_NOISE, f"{found}; the metrics agree within noise."


def beyond_noise(commit: str, pairs: Pairs) -> list[str]:
    """Return the gated metrics that differ by more than the noise of two runs explains.

    They may differ in either direction. Student's t, as the deviation is estimated, and
    Bonferroni's correction.
    """
    from scipy.stats import t  # slow, so only where it is needed

    gate, noise = gate_at(commit), noise_at(commit).table
    pairs = {title: pair for title, pair in pairs.items() if pair[0] in gate.metrics}
    quantile = t.isf(gate.false_alarms / 2 / len(pairs), len(noise) - 1)
    exceeding = []
    for title, (metric, old, new) in pairs.items():
        allowed = quantile * noise[metric].std() * math.sqrt(2)
        if new is None:
            exceeding.append(f"{title} is missing")
        elif not abs(new - old) <= allowed:
            exceeding.append(f"{title}: {old:.4f} -> {new:.4f}, by noise at most {allowed:.4f}")
    return exceeding


if __name__ == "__main__":
    with exit_on_user_error("verify"):
        sys.exit(main())
