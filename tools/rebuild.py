"""Rebuild whatever changed, then run and compare the experiments: `make`.

It removes corrupted files from DVC's cache first. In a merge, it settles conflicts in results by
rebuilding them. If this machine computes other bytes than the committed ones from the same code,
params and data, the last line says so, and how to restore the committed ones.
"""

import json
import re

from fashion.core.errors import UserError
from tools.arguments import expect_no_arguments
from tools.dvc import DVC_LOCK, dvc, lock_at, output_hashes, read_lock, status
from tools.experiments.compare import save_comparison
from tools.experiments.config import read_experiments
from tools.experiments.results import TRAIN_METRICS
from tools.experiments.up_to_date import ReplacementRefused, run_missing
from tools.git import file_at, git, head
from tools.process import command_line

# The files that `make` writes; noise and sweeps are in the same folders, but take too long.
RESULTS = re.compile(r"dvc\.lock|(metrics|plots)/(?!noise|sweeps)")


def main() -> None:
    expect_no_arguments("rebuild", __doc__)
    config, commit = read_experiments(), head()
    settled = settle_conflicts()
    # experiments first: they run side by side, and the workspace may then reuse one of their models
    try:
        results, refusal = run_missing(config.experiments), None
    except ReplacementRefused as error:
        results, refusal = {}, error
    if status():
        dvc("repro")
    if settled:
        add = f"`git add {DVC_LOCK} metrics plots`"
        return print(f"\nConflicts settled. Run {add}, commit the merge, then `make` again.")
    if refusal:
        return print(f"\nThe experiments stay as they are: {refusal}")
    save_comparison(list(results.values()))
    if note := machine_note(commit):
        print(f"\n{note}")


def settle_conflicts() -> list[str]:
    """Settle a merge's conflicts in results with this branch's version; return their paths.

    Raises UserError for conflicts in other files.
    """
    unmerged = git("diff", "--name-only", "--diff-filter=U", "-z").split("\0")[:-1]
    by_hand = [path for path in unmerged if not RESULTS.match(path)]
    if by_hand:
        raise UserError(
            f"the merge left conflicts in {', '.join(by_hand)}. Settle them by hand, `git add`"
            f" the files, and run this again: it rebuilds {DVC_LOCK}, metrics and plots"
        )
    if unmerged:
        git("checkout", "--ours", "--", *unmerged)
    return unmerged


def machine_note(commit: str) -> str | None:
    """Return a line to print if results differ from a commit's, but code, params and data do not.

    Otherwise, return None.
    """
    try:
        before = lock_at(commit)
    except UserError:  # nothing is committed yet
        return None
    after = read_lock()
    committed, now = output_hashes(before), output_hashes(after)
    different = sum(now.get(path) != md5 for path, md5 in committed.items())
    if not different or inputs(before) != inputs(after):
        return None
    from tools.gate.verify import describe_difference  # slow, so only where it is needed

    back = f"`git checkout {DVC_LOCK} metrics plots` restores the committed ones."
    metrics = json.loads(file_at(commit, TRAIN_METRICS)), json.loads(TRAIN_METRICS.read_bytes())
    why, _ = describe_difference(*metrics, different, len(committed))
    return f"{why} `make verify` rebuilds them in a clean clone. {back}"


def inputs(stages: dict[str, dict]) -> dict[str, tuple]:
    """Return the command, params and code of each of dvc.lock's stages, by name."""
    outputs, found = output_hashes(stages), {}
    for name, stage in stages.items():
        code = [dep for dep in stage.get("deps", []) if dep["path"] not in outputs]
        found[name] = (stage["cmd"], stage.get("params"), code)
    return found


if __name__ == "__main__":
    with command_line("rebuild"):
        main()
