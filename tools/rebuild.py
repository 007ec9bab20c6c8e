"""Rebuild whatever changed, then run and compare the experiments: `make`.

It removes corrupted files from DVC's cache first. In a merge, it settles conflicts in results by
rebuilding them.
"""

import re

from fashion.core.errors import UserError
from tools.arguments import expect_no_arguments
from tools.dvc import DVC_LOCK, status
from tools.experiments.compare import save_comparison
from tools.experiments.config import read_experiments
from tools.experiments.up_to_date import ReplacementRefused, run_missing
from tools.fsck import verified_repro
from tools.git import git, head
from tools.process import command_line

# The files that `make` writes; noise and sweeps are in the same folders, but take too long.
RESULTS = re.compile(r"dvc\.lock|(metrics|plots)/(?!noise|sweeps)")


def main() -> None:
    expect_no_arguments("rebuild", __doc__)
    config = read_experiments()
    head()  # outside of a Git repository, it says so
    settled = settle_conflicts()
    # experiments first: they run side by side, and the workspace may then reuse one of their models
    try:
        results, refusal = run_missing(config.experiments), None
    except ReplacementRefused as error:
        results, refusal = {}, error
    if status():
        verified_repro()
    if settled:
        add = f"`git add {DVC_LOCK} metrics plots`"
        return print(f"\nConflicts settled. Run {add}, commit the merge, then `make` again.")
    if refusal:
        return print(f"\nThe experiments stay as they are: {refusal}")
    save_comparison(list(results.values()))


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


if __name__ == "__main__":
    with command_line("rebuild"):
        main()
