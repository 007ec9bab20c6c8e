"""Find the commit that a candidate is compared with."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fashion.core.errors import UserError
from tools.dvc import resolve_revision
from tools.git import SHALLOW, git, head, is_shallow

ANOTHER = "Name another baseline: --baseline REV"
FETCH = "is missing in this clone. `git fetch origin` brings it"


def find_baseline(revision: str | None, has_changes: bool) -> tuple[str, str]:
    """Return the hash of the baseline, and a description that says what was not looked at.

    The baseline is the named revision, or else the commit that the change started from. Raises
    UserError if it can't be found.
    """
    if revision:
        commit = resolve_revision(revision)
        is_head = commit == head() and not has_changes
        return commit, "which --baseline names" + "; this is HEAD itself" * is_head
    if is_shallow():
        raise UserError(f"the baseline can't be found. {SHALLOW}")
    for commit, description, note in _candidates():
        if commit != head():
            return commit, description + note
        if has_changes:  # otherwise HEAD would be compared with itself
            return commit, f"HEAD, without the uncommitted changes{note}"
    raise UserError("HEAD is the first commit and has no baseline. Name one: --baseline REV")


def _candidates() -> Iterator[tuple[str, str, str]]:
    """Yield possible baselines, the best first, each with a description and a note."""
    if target := os.environ.get("GITHUB_BASE_REF"):
        if not _try_git("show-ref", "--verify", f"refs/remotes/origin/{target}"):
            raise UserError(f"origin/{target}, the target of this pull request, {FETCH}")
        yield *_where_left(f"refs/remotes/origin/{target}"), ""
    if base := os.environ.get("CI_MERGE_REQUEST_DIFF_BASE_SHA"):
        if _try_git("cat-file", "-t", base) != "commit":
            raise UserError(f"{base[:7]}, the base of this merge request, {FETCH}")
        yield base, "where this branch left the target of the merge request", ""
    before = _before_push()
    base = before and _try_git("merge-base", "HEAD", before)
    note = "" if base == before else "; this push was forced"
    if base:
        yield base, "the commit that this push started from", note
    main = _main_branch()
    has_remote = main.startswith("refs/remotes/")
    reason = "the remote's default branch contains HEAD" if has_remote else "there is no remote"
    earlier = f"; {reason}, so earlier commits were not looked at{note}"
    if main:
        yield *_where_left(main), note if has_remote else earlier
    if not has_remote:
        yield head(), "HEAD", earlier
        branch = _try_git("symbolic-ref", "--quiet", "HEAD")
        if branch and (base := _try_git("merge-base", "HEAD", f"{branch}@{{1}}")):
            yield base, "the commit that the last update of this branch started from", earlier
    if parents := git("rev-parse", "HEAD^@").split():
        name = "first parent of this merge" if parents[1:] else "commit before HEAD"
        yield parents[0], f"the {name}", earlier


def _before_push() -> str:
    """Return the commit before a push to GitHub or GitLab, or "" if they name none or zeros."""
    sha = os.environ.get("CI_COMMIT_BEFORE_SHA")
    if os.environ.get("GITHUB_EVENT_NAME") == "push":
        with suppress(OSError, ValueError, RecursionError, LookupError, TypeError):
            sha = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())["before"]
    return sha if isinstance(sha, str) and re.fullmatch("(?!0+$)[0-9a-f]{40,64}", sha) else ""


def _main_branch() -> str:
    """Return the reference of the remote's default branch; without a remote, of the local one."""
    remotes = git("remote").split()
    remote = remotes[0] if len(remotes) == 1 else "origin"
    folder = f"refs/remotes/{remote}" if remotes else "refs/heads"
    default = _try_git("symbolic-ref", "--quiet", f"{folder}/HEAD")
    for name in (default, f"{folder}/main", f"{folder}/master"):
        if _try_git("show-ref", "--verify", name):  # `git rev-parse` would accept a tag like it
            return name
    if not remotes:
        return ""
    fetch = f"`git fetch {remote} && git remote set-head {remote} --auto` finds it"
    raise UserError(f"the default branch of {remote} is unknown. {fetch}. {ANOTHER}")


def _where_left(reference: str) -> tuple[str, str]:
    """Return the commit at which HEAD's branch left another one, and a description."""
    if base := _try_git("merge-base", "HEAD", reference):
        return base, f"where this branch left {reference.split('/', 2)[2]}"
    raise UserError(f"this branch has no commit in common with {reference}. {ANOTHER}")


def _try_git(*arguments: str) -> str:
    """Return what a Git command prints, or "" if it fails."""
    try:
        return git(*arguments).strip()
    except UserError:
        return ""
