"""Find the commit that a candidate is compared with, whatever else has its name."""

import os
from pathlib import Path

import pytest

from fashion.core.errors import UserError
from tests.support.repository import IDENTITY
from tools.dvc import experiment_ref
from tools.gate.baseline import find_baseline
from tools.git import git, head

OF_THE_PLATFORM = ("GITHUB_BASE_REF", "GITHUB_EVENT_NAME", "GITHUB_EVENT_PATH")
OF_THE_PLATFORM += ("CI_COMMIT_BEFORE_SHA", "CI_MERGE_REQUEST_DIFF_BASE_SHA")


class History(dict[str, str]):
    """The empty commits of a Git repository: hash by message."""

    def run(self, commands: str) -> None:
        """Run Git commands, or `export` a variable; messages stand for hashes."""
        for command in filter(str.strip, commands.split(";")):
            name, *words = (self.get(word, word) for word in command.split())
            if name == "export":
                os.environ[words[0]] = words[1]
            elif name == "commit":
                git("commit", "--quiet", "--allow-empty", "--message", *words)
                self[words[0]] = head()
            else:
                git(name, *words)


@pytest.fixture
def history(tmp_path, monkeypatch) -> History:
    """Return a history in which `feature` left main, which went on, and has two commits."""
    for name, value in {**dict.fromkeys(OF_THE_PLATFORM, ""), **IDENTITY}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    history = History()
    history.run("init --initial-branch=main; commit root; commit fork; checkout -b feature main")
    history.run("commit one; commit two; checkout main; commit tip; checkout feature")
    return history


def remote(default: str, name: str = "origin") -> str:
    """Return the commands that add a remote whose default branch is at our main."""
    at = f"refs/remotes/{name}/"
    return f"remote add {name} .;update-ref {at}{default} main;symbolic-ref {at}HEAD {at}{default};"


ORIGIN, TRUNK, MASTER = map(remote, ("main", "trunk", "master"))
NO_HEAD = "symbolic-ref --delete refs/remotes/origin/HEAD;"
THREE = "checkout -b lead main; commit a; commit b; commit c; checkout main; merge lead;"
DROP_TIP = "merge --strategy=ours main; checkout main; merge feature"  # its first parent is two
MR, PUSHED = "export CI_MERGE_REQUEST_DIFF_BASE_SHA", f"{ORIGIN}{THREE}export CI_COMMIT_BEFORE_SHA"
LEFT, PUSH = "where this branch left", "the commit that this push started from"
LEFT_ORIGIN, LEFT_V2, FORCED = f"{LEFT} origin/main", f"{LEFT} origin/v2", "; this push was forced"
UPDATE = "the commit that the last update of this branch started from"
ALONE = "; there is no remote, so earlier commits were not looked at"
PAST = "; the remote's default branch contains HEAD, so earlier commits were not looked at"
CASES = [
    (remote("main", "fork") + TRUNK, "fork", f"{LEFT} origin/trunk"),
    (remote("main", "upstream"), "fork", f"{LEFT} upstream/main"),
    (f"{ORIGIN} tag origin/main; branch origin/main", "fork", LEFT_ORIGIN),
    (f"{MASTER}{NO_HEAD}tag refs/remotes/origin/main", "fork", f"{LEFT} origin/master"),
    (ORIGIN + THREE, "tip", LEFT_ORIGIN),
    (ORIGIN + DROP_TIP, "tip", LEFT_ORIGIN),
    (f"{ORIGIN} checkout main", "fork", f"the commit before HEAD{PAST}"),
    (f"checkout main; merge feature; {ORIGIN}", "tip", f"the first parent of this merge{PAST}"),
    ("tag main", "fork", f"{LEFT} main{ALONE}"),
    ("branch -m main master", "fork", f"{LEFT} master{ALONE}"),
    ("branch -m main trunk", "one", f"{UPDATE}{ALONE}"),
    ("checkout -b new main", "fork", f"the commit before HEAD{ALONE}"),
    (THREE, "tip", f"{UPDATE}{ALONE}"),
    (DROP_TIP, "tip", f"{UPDATE}{ALONE}"),
    ("checkout main; commit tip2 --amend", "fork", f"{UPDATE}{ALONE}"),
    ("checkout main; reset fork", "root", f"the commit before HEAD{ALONE}"),
    ("update-ref refs/remotes/origin/v2 one; export GITHUB_BASE_REF v2", "one", LEFT_V2),
    (f"{ORIGIN} {MR} one", "one", f"{LEFT} the target of the merge request"),
    (f"{PUSHED} a", "a", PUSH),
    (f"{PUSHED} two", "fork", PUSH + FORCED),
    (f"{PUSHED} {'1' * 40}", "tip", LEFT_ORIGIN + FORCED),
    (f"{PUSHED} c; checkout fork", "root", f"the commit before HEAD{PAST}{FORCED}"),
]
MISSING = {
    "checkout root": "the first commit.* --baseline REV",
    "checkout --orphan new; commit other": "no commit in common.* --baseline REV",
    TRUNK + NO_HEAD: "`git fetch origin && git remote set-head origin --auto`",
    "export GITHUB_BASE_REF gone; tag origin/gone": "origin/gone.*`git fetch origin`",
    f"{MR} {'1' * 40}": "1111111.*`git fetch origin`",
}
NAMED = {"HEAD": "two", "HEAD~1": "one", "main": "tip", "release": "one", "short": "root"}
NULLS = [f'{{"before": {value}}}' for value in ("null", f'"{"0" * 40}"', "0", "[]")]


@pytest.mark.parametrize(("commands", "commit", "description"), CASES)
def test_the_baseline_is_where_the_candidate_started(history, commands, commit, description):
    history.run(commands)
    assert find_baseline(None, False) == (history[commit], description)
    if not description.startswith((LEFT, PUSH)):
        commit = "HEAD"
        notes = [note for note in (ALONE, FORCED) if description.endswith(note)]
        description = "".join(["HEAD, without the uncommitted changes", *notes])
    assert find_baseline(None, True) == (history.get(commit) or head(), description)


@pytest.mark.parametrize("event", ['{"before": "HASH"}', "no JSON", "NESTED", "[]", "{}", *NULLS])
def test_a_push_to_github_is_compared_with_what_was_before(history, event):
    history.run(f"{ORIGIN}{THREE}export GITHUB_EVENT_NAME push; export GITHUB_EVENT_PATH event")
    Path("event").write_text(event.replace("HASH", history["root"]).replace("NESTED", "[" * 10**5))
    commit, description = ("root", PUSH) if "HASH" in event else ("tip", LEFT_ORIGIN)
    assert find_baseline(None, False) == (history[commit], description)


@pytest.mark.parametrize("commands", MISSING)
def test_a_missing_baseline_is_an_error_that_says_what_to_do(history, commands):
    history.run(commands)
    with pytest.raises(UserError, match=MISSING[commands]):
        find_baseline(None, False)


@pytest.mark.parametrize("revision", NAMED)
def test_a_branch_comes_before_a_tag_and_a_tag_before_an_experiment(history, revision):
    history.run("tag main two; tag release one; update-ref refs/tags/HEAD root")
    for name in ("HEAD", "main", "release", *map(str, range(25)), "short"):
        git("update-ref", experiment_ref(head(), name), history["root"])
    late = os.environ | {"GIT_COMMITTER_DATE": "2040-01-01 00:00:00"}
    newer = git("commit-tree", "HEAD^{tree}", "-m", "newer", env=late).strip()
    git("update-ref", experiment_ref(history["tip"], "short"), newer)  # not of HEAD's history
    description = "which --baseline names" + "; this is HEAD itself" * (revision == "HEAD")
    assert find_baseline(revision, False) == (history[NAMED[revision]], description)
    assert find_baseline(revision, True)[1] == "which --baseline names"
