"""Rebuild a commit from the raw data and compare every output: `make verify`.

The rebuild runs in a clone without any cache. Prints a table, output by output. Exit status 0 when
all hashes are those in the commit's dvc.lock and the experiments' table is the committed one to the
byte; 3 when some are not, but the environment is another than the recorded one (not an x86-64
machine, say) and all metrics agree within the measured noise; 1 for anything else. Nothing in the
working copy changes.
"""

import argparse
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from fashion.environment import describe_environment
from fashion.errors import UserError, exit_on_user_error
from fashion.strict_yaml import check_config
from tools.dvc import dvc, subprocess_env, use_cache
from tools.dvc_lock import DVC_LOCK, lock_at, read_lock
from tools.gate.config import GATE, Gate
from tools.gate.noise import parse_noise
from tools.git import git, git_bytes, resolve_revision, temporary_clone, yaml_at

ENVIRONMENT, NOISE = "metrics/environment.json", "metrics/noise.json"
METRICS, EXPERIMENTS = ["metrics/train.json", "metrics/test.json"], "metrics/experiments.csv"
EQUAL, DIFFERENT, MISSING = "✓ equal", "✗ different", "✗ missing"
WITHIN_NOISE = 3  # exit status


def main() -> int:
    parser = argparse.ArgumentParser(prog="verify", description=__doc__.split("\n")[0])
    parser.add_argument(
        "revision",
        metavar="REV",
        nargs="?",
        default="HEAD",
        help="commit, branch or tag (default: HEAD)",
    )
    revision = parser.parse_args().revision
    commit = resolve_revision(revision)
    with rebuilt(commit) as clone:
        rows = compare_outputs(commit, clone)
        print(f"\n{pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)}\n")
        if all(row["verdict"] == EQUAL for row in rows):
            print(f"{revision} ({commit[:7]}): all {len(rows)} outputs are equal to the byte.")
            return 0
        other, exceeding = other_environment(commit), beyond_noise(commit, clone)
        different = sum(row["verdict"] != EQUAL for row in rows)
    if other:
        print("Another environment than the recorded one:", *listed(other), sep="\n  ")
    if exceeding:
        print("Further apart than noise explains:", *exceeding, sep="\n  ")
    if other and not exceeding:
        explanation = explain_difference(different, len(rows), other, exceeding)
        print(f"{revision} ({commit[:7]}): {explanation}")
        return WITHIN_NOISE
    raise UserError(
        f"{revision} ({commit[:7]}) was not reproduced"
        + ("" if other else ": in the recorded environment every byte should be equal")
    )


@contextmanager
def rebuilt(commit: str) -> Iterator[Path]:
    """A clone of the commit in which everything has been made anew from the raw data."""
    with temporary_clone("verify", commit) as clone:
        use_cache(clone / ".dvc/cache", clone)  # its own, also where a shared one is configured
        dvc("repro", "--force", folder=clone)
        if subprocess.run(
            [sys.executable, "-m", "tools.experiments"],
            cwd=clone,
            env=subprocess_env(),
            check=False,
        ).returncode:
            raise UserError(f"the experiments of {commit[:7]} failed; the lines above say why")
        yield clone


def compare_outputs(commit: str, clone: Path) -> list[dict[str, str]]:
    """A row for each output of the commit's dvc.lock, and one for the experiments' table."""
    committed, now = hashes(lock_at(commit)), hashes(read_lock(clone / DVC_LOCK))
    rows = [
        row(path, stage, committed[path][1], now.get(path, ("", None))[1])
        for path, (stage, _) in committed.items()
    ]
    before, after = git("rev-parse", f"{commit}:{EXPERIMENTS}").strip(), clone / EXPERIMENTS
    rows.append(row(EXPERIMENTS, "(experiments)", before, git("hash-object", str(after)).strip()))
    old, new = (
        arithmetic_of(text)
        for text in (git("show", f"{commit}:{METRICS[0]}"), (clone / METRICS[0]).read_text())
    )
    titles = {
        "committed": f"committed, {old}" if old else "committed",
        "rebuilt": f"rebuilt, {new}" if new else "rebuilt",
    }
    return [{titles.get(title, title): value for title, value in cells.items()} for cells in rows]


def row(path: str, stage: str, committed: str, now: str | None) -> dict[str, str]:
    verdict = MISSING if now is None else EQUAL if now == committed else DIFFERENT
    return {
        "output": path,
        "stage": stage,
        "committed": committed[:8],
        "rebuilt": (now or "")[:8],
        "verdict": verdict,
    }


def arithmetic_of(metrics: str) -> str | None:
    """How the numbers of a metrics/train.json were computed, where that was not portable."""
    return json.loads(metrics).get("arithmetic")


def hashes(stages: dict[str, dict]) -> dict[str, tuple[str, str]]:
    """Stage and MD5 of every output of a dvc.lock's stages, by path."""
    return {
        out["path"]: (name, out["md5"])
        for name, stage in stages.items()
        for out in stage.get("outs", [])
    }


def other_environment(commit: str) -> dict[str, tuple]:
    """What differs between the recorded environment and the one here, (recorded, here) by name.

    Left out is what changes no bytes: threads outside of an operation, and which model was made.
    """
    recorded = json.loads(git("show", f"{commit}:{ENVIRONMENT}"))
    before, now = (
        pd.json_normalize(values).iloc[0] for values in (recorded, describe_environment())
    )
    names = [
        name
        for name in before.index.union(now.index, sort=False)
        if not name.endswith(("INTEROP_THREADS", "OMP_NUM_THREADS", "model_md5"))
    ]
    return {
        name: (before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    }


def listed(differences: dict[str, tuple]) -> Iterable[str]:
    return (f"{name}: {before} -> {now}" for name, (before, now) in differences.items())


def explain_difference(
    different: int, outputs: int, other: dict[str, tuple], exceeding: list[str]
) -> str:
    """One line on a rebuild in another environment."""
    agree = (
        f"these metrics do not agree within noise: {'; '.join(exceeding)}"
        if exceeding
        else "the metrics agree within noise"
    )
    return (
        f"{different} of {outputs} outputs differ from the committed ones"
        " because of the machine or its packages"
        f" ({', '.join(other)}); {agree}."
    )


def beyond_noise(commit: str, clone: Path) -> list[str]:
    """Return the metrics that differ by more than the measured noise of two runs explains.

    They may differ in either direction.
    """
    from scipy.stats import t  # slow, so only where it is needed

    gate = check_config(yaml_at(commit, GATE), str(GATE), Gate)
    noise = parse_noise(git("show", f"{commit}:{NOISE}"), f"{NOISE} of {commit[:7]}").table
    pairs = {}
    for path in METRICS:
        before, now = (
            json.loads(git("show", f"{commit}:{path}")),
            json.loads((clone / path).read_text()),
        )
        pairs |= {
            name: (name, before[name], now.get(name)) for name in gate.metrics if name in before
        }
    before, now = (
        pd.read_csv(file, index_col="experiment")["accuracy"]
        for file in (io.BytesIO(git_bytes("show", f"{commit}:{EXPERIMENTS}")), clone / EXPERIMENTS)
    )
    pairs |= {
        f"accuracy of {name}": ("accuracy", before[name], now.get(name)) for name in before.index
    }
    exceeding = []
    for title, (metric, old, new) in pairs.items():
        # Student's t, as the deviation is estimated, and Bonferroni's correction
        quantile = t.isf(gate.false_alarms / 2 / len(pairs), len(noise) - 1)
        allowed = quantile * noise[metric].std() * math.sqrt(2)
        if new is None or not abs(new - old) <= allowed:
            exceeding.append(
                f"{title}: {old:.4f} -> {new:.4f}, by noise at most {allowed:.4f}"
                if new is not None
                else title
            )
    return exceeding


if __name__ == "__main__":
    with exit_on_user_error("verify"):
        sys.exit(main())
