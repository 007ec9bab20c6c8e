"""Rebuild whatever changed, then run and compare the experiments: `make`.

What DVC would take from its cache is looked at first (tools/fsck.py). Where this machine computes
other bytes than the committed ones from the same code, params and data, the last line says so, and
how to go back.
"""

from fashion.core.errors import UserError, exit_on_user_error
from fashion.core.params import PARAMS
from fashion.core.strict_yaml import read_yaml
from tools.arguments import expect_no_arguments
from tools.dvc import dvc, status
from tools.dvc_lock import DVC_LOCK, lock_at, output_hashes, read_lock
from tools.experiments.compare import save_comparison
from tools.experiments.config import read_experiments
from tools.experiments.up_to_date import (
    ReplacementRefused,
    check_working_copy,
    describe_changes,
    run_missing,
)
from tools.fsck import verify_cache
from tools.gate.verify import explain_difference, read_pairs
from tools.git import head


def main() -> None:
    expect_no_arguments("rebuild", __doc__)
    config, commit = read_experiments(), head()
    check_working_copy()
    if changes := describe_changes(commit):
        print(f"Not committed: {'; '.join(changes)}.", flush=True)
    verify_cache()
    # before the workspace, which then finds its model among theirs where it is one of them: so all
    # are trained side by side
    try:
        results, refusal = run_missing(config.experiments, read_yaml(PARAMS)), None
    except ReplacementRefused as error:
        results, refusal = {}, error
    if status():
        dvc("repro")
    if refusal:
        return print(f"\nThe experiments are left as they are: {refusal}")
    save_comparison(list(results.values()))
    if note := machine_note():
        print(f"\n{note}")


def machine_note() -> str | None:
    """One line where results differ from the committed ones though code, params and data do not."""
    commit = head()
    try:
        before = lock_at(commit)
    except UserError:  # nothing is committed yet
        return None
    after = read_lock()
    if before == after or inputs(before) != inputs(after):
        return None
    committed, now = output_hashes(before), output_hashes(after)
    different = sum(now.get(path) != md5 for path, md5 in committed.items())
    if not different:
        return None
    back = f"`git checkout {DVC_LOCK} metrics plots` brings the committed ones back."
    try:
        _, why = explain_difference(commit, different, len(committed), read_pairs(commit))
    except UserError as error:  # no record, or no noise
        why = f"{different} of {len(committed)} outputs differ from the committed ones: {error}."
    return f"{why} `make verify` rebuilds them in a clean clone. {back}"


def inputs(stages: dict[str, dict]) -> list[tuple]:
    """Return what the results of a dvc.lock's stages were made from.

    That is params, and MD5 of the code, which no stage makes.
    """
    made = output_hashes(stages)
    return [
        (
            name,
            stage["cmd"],
            stage.get("params"),
            [dep for dep in stage.get("deps", []) if dep["path"] not in made],
        )
        for name, stage in stages.items()
    ]


if __name__ == "__main__":
    with exit_on_user_error("rebuild"):
        main()
