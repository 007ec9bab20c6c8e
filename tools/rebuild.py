"""Rebuild whatever changed, then run and compare the experiments: `make`.

First, corrupted files are removed from DVC's cache (tools/fsck.py). In a merge, conflicts in the
files that are made here need no decision: they are made again. If this machine computes other bytes
than the committed ones from the same code, params and data, the last line says so, and how to go
back.
"""

import json
import re

from fashion.core.errors import UserError
from tools.arguments import expect_no_arguments
from tools.dvc import DVC_LOCK, dvc, lock_at, output_hashes, pinned_run_cache, read_lock, status
from tools.experiments.backend import RETRAIN
from tools.experiments.compare import save_comparison
from tools.experiments.config import read_experiments
from tools.experiments.up_to_date import (
    TRAIN_METRICS,
    ReplacementRefused,
    check_workspace,
    describe_changes,
    has_our_environment,
    run_missing,
)
from tools.fsck import repair_cache
from tools.gate.verify import describe_difference
from tools.git import file_at, git, head
from tools.process import command_line

# files that are made here; noise and sweeps are in the same folders
MADE = re.compile(r"dvc\.lock|(metrics|plots)/(?!noise|sweeps)")


def main() -> None:
    expect_no_arguments("rebuild", __doc__)
    config, commit = read_experiments(), head()
    settled = settle_conflicts()
    check_workspace()
    if changes := describe_changes(commit):
        print(f"Not committed: {'; '.join(changes)}.", flush=True)
    repair_cache()
    # before the workspace, which may then take its model from one of them, all trained side by side
    try:
        results, refusal = run_missing(config.experiments), None
    except ReplacementRefused as error:
        results, refusal = {}, error
    with pinned_run_cache():
        if status():
            dvc("repro")
        if not has_our_environment(TRAIN_METRICS.read_bytes()):
            dvc("repro", *RETRAIN)  # the workspace had the result of another environment
    if settled:
        add = f"`git add {DVC_LOCK} metrics plots`"
        return print(f"\nThe conflicts are settled: {add}, commit the merge, and `make` again.")
    if refusal:
        return print(f"\nThe experiments are left as they are: {refusal}")
    save_comparison(list(results.values()))
    if note := machine_note(commit):
        print(f"\n{note}")


def settle_conflicts() -> list[str]:
    """Take this branch's version of the files in conflict that are made again; return them.

    Raises UserError if a merge left conflicts in other files, which somebody has to decide.
    """
    unmerged = git("diff", "--name-only", "--diff-filter=U", "-z").split("\0")[:-1]
    by_hand = [path for path in unmerged if not MADE.match(path)]
    if by_hand:
        raise UserError(
            f"the merge left conflicts in {', '.join(by_hand)}. Settle those by hand, `git add`"
            f" them, and run this again: it makes {DVC_LOCK}, metrics and pictures itself"
        )
    if unmerged:
        git("checkout", "--ours", "--", *unmerged)
    return unmerged


def machine_note(commit: str) -> str | None:
    """Return a line if results differ from a commit's though code, params and data do not."""
    try:
        before = lock_at(commit)
    except UserError:  # nothing is committed yet
        return None
    after = read_lock()
    committed, now = output_hashes(before), output_hashes(after)
    different = sum(now.get(path) != md5 for path, md5 in committed.items())
    if not different or inputs(before) != inputs(after):
        return None
    back = f"`git checkout {DVC_LOCK} metrics plots` brings the committed ones back."
    metrics = json.loads(file_at(commit, TRAIN_METRICS)), json.loads(TRAIN_METRICS.read_bytes())
    why, _ = describe_difference(*metrics, different, len(committed))
    return f"{why} `make verify` rebuilds them in a clean clone. {back}"


def inputs(stages: dict[str, dict]) -> dict[str, tuple]:
    """Return the commands, params and code of dvc.lock's stages, by name."""
    made = output_hashes(stages)
    code = {
        name: [dep for dep in stage.get("deps", []) if dep["path"] not in made]
        for name, stage in stages.items()
    }
    return {name: (one["cmd"], one.get("params"), code[name]) for name, one in stages.items()}


if __name__ == "__main__":
    with command_line("rebuild"):
        main()
