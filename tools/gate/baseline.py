"""Which commit a change is compared with."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from fashion.errors import UserError
from tools.git import git, head, is_shallow, resolve_revision

MAIN = ("refs/remotes/origin/main", "refs/heads/main")  # in full: a tag may have the short name
ANOTHER = "Name another baseline: --baseline REV"
SHALLOW = "This clone is shallow: `git fetch --unshallow` brings the rest"
FETCH = "`git fetch origin` brings it"


@dataclass(frozen=True)
class Baseline:
    commit: str
    what: str  # which commit this is, in words


def find_baseline(revision: str | None) -> Baseline:
    """Return the named commit, or else the one that the change started from.

    On GitHub that is the merge base with the target branch of a pull request, or what the branch
    was before a push; elsewhere the merge base with the main branch; on the main branch itself the
    commit before, of a merge the one from which its branches went apart.
    """
    if revision:
        found = Baseline(_resolve(revision), revision)
    elif is_shallow():
        raise UserError(f"there is nothing to compare with. {SHALLOW}")
    else:
        found = _of_pull_request() or _before_push() or _merge_base_with_main() or _before_head()
    if found.commit == head():
        return Baseline(found.commit, f"{found.what}, which is this very commit")
    return found


def _resolve(revision: str) -> str:
    """Return the commit of a revision: a branch before a tag before an experiment of that name."""
    if not re.match(r"HEAD\b", revision):
        for kind in ("heads", "remotes", "tags"):
            if commit := _commit(f"refs/{kind}/{revision}"):
                return commit
    if commit := _commit(revision):
        return commit
    try:
        return resolve_revision(revision)
    except UserError as error:
        raise UserError(f"{error}. {SHALLOW}" if is_shallow() else str(error)) from None


def _of_pull_request() -> Baseline | None:
    target = os.environ.get("GITHUB_BASE_REF")
    if not target:
        return None
    if not _commit(f"refs/remotes/origin/{target}"):
        raise UserError(f"origin/{target}, the target of this pull request, is not here. {FETCH}")
    base = _merge_base(f"refs/remotes/origin/{target}")
    return Baseline(base, f"where this branch left {target}, the target of the pull request")


def _before_push() -> Baseline | None:
    event = Path(os.environ.get("GITHUB_EVENT_PATH") or os.devnull)
    if os.environ.get("GITHUB_EVENT_NAME") != "push" or not event.is_file():
        return None
    before = json.loads(event.read_bytes()).get("before", "")
    if not before.strip("0"):  # a new branch
        return None
    if not _commit(before):
        raise UserError(f"{before[:7]}, what the branch was before this push, is not here. {FETCH}")
    return Baseline(_merge_base(before), "what the branch was before this push")


def _merge_base_with_main() -> Baseline | None:
    for reference in MAIN:
        if _commit(reference):
            base = _merge_base(reference)
            name = reference.split("/", 2)[2]
            return None if base == head() else Baseline(base, f"where this branch left {name}")
    return None


def _before_head() -> Baseline:
    parents = git("rev-parse", "HEAD^@").split()
    if not parents:
        raise UserError(
            "there is no commit before this one to compare with. Name one: --baseline REV"
        )
    reason = "as this one is on main" if any(map(_commit, MAIN)) else "as there is no branch main"
    if len(parents) == 1:
        return Baseline(parents[0], f"the commit before, {reason}")
    base = git("merge-base", "--octopus", *parents).strip()
    return Baseline(base, f"where the branches merged here went apart, {reason}")


def _merge_base(reference: str) -> str:
    try:
        return git("merge-base", "HEAD", reference).strip()
    except UserError:
        raise UserError(
            f"this branch has no commit in common with {reference}. {ANOTHER}"
        ) from None


def _commit(revision: str) -> str | None:
    try:
        return git("rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}").strip()
    except UserError:
        return None
