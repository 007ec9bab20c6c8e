"""Which commit a change is compared with, whatever else has its name."""

import json
import subprocess
from pathlib import Path

import pytest

from fashion.errors import UserError
from tests.support.repository import IDENTITY
from tools.gate.baseline import find_baseline

OF_THE_PLATFORM = ("GITHUB_BASE_REF", "GITHUB_EVENT_NAME", "GITHUB_EVENT_PATH")


class History:
    """A Git repository of empty commits."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main", str(folder))

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def history(tmp_path, monkeypatch) -> History:
    for name in OF_THE_PLATFORM:
        monkeypatch.delenv(name, raising=False)
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return History(tmp_path)


@pytest.fixture
def branch(history) -> dict[str, str]:
    """Leave main, which goes on, as does the branch; both are known as origin's as well."""
    commits = {"fork": history.commit("Fork")}
    history.git("checkout", "--quiet", "-b", "feature")
    commits["first"] = history.commit("First")
    commits["second"] = history.commit("Second")
    history.git("checkout", "--quiet", "main")
    commits["main"] = history.commit("Main goes on")
    history.git("update-ref", "refs/remotes/origin/main", "main")
    history.git("checkout", "--quiet", "feature")
    return commits


def test_a_branch_is_compared_with_where_it_left_main(branch):
    found = find_baseline(None)
    assert (found.commit, found.what) == (branch["fork"], "where this branch left origin/main")


@pytest.mark.parametrize("kind", ["tags", "heads"])
def test_a_tag_or_branch_called_origin_main_does_not_take_its_place(history, branch, kind):
    history.git("update-ref", f"refs/{kind}/origin/main", "HEAD")
    assert find_baseline(None).commit == branch["fork"]


def test_a_tag_called_main_does_not_take_its_place(history, branch):
    history.git("update-ref", "-d", "refs/remotes/origin/main")
    history.git("tag", "main", "HEAD")
    assert find_baseline(None).commit == branch["fork"]
    assert find_baseline("main").commit == branch["main"]


def test_an_experiment_called_head_does_not_take_its_place(history, branch):
    head = branch["second"]
    for name in ("HEAD", "main"):
        history.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", branch["fork"])
    assert find_baseline("HEAD").commit == head
    assert find_baseline("HEAD~1").commit == branch["first"]
    assert find_baseline("main").commit == branch["main"]


def test_a_pull_request_is_compared_with_where_it_left_its_target(history, branch, monkeypatch):
    history.git("update-ref", "refs/remotes/origin/release", branch["first"])
    monkeypatch.setenv("GITHUB_BASE_REF", "release")
    found = find_baseline(None)
    assert found.commit == branch["first"] and "left release" in found.what
    monkeypatch.setenv("GITHUB_BASE_REF", "gone")
    with pytest.raises(UserError, match="origin/gone, the target of this pull request"):
        find_baseline(None)


def test_a_push_of_two_commits_is_compared_with_what_was_before(history, branch, monkeypatch):
    event = Path("event.json")
    monkeypatch.setenv("GITHUB_EVENT_NAME", "push")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(event))
    history.git("checkout", "--quiet", "main")
    history.commit("One")
    history.commit("Two")
    event.write_text(json.dumps({"before": branch["main"]}))
    found = find_baseline(None)
    assert found.commit == branch["main"] and "before this push" in found.what
    event.write_text(json.dumps({"before": branch["second"]}))  # a push by force
    assert find_baseline(None).commit == branch["fork"]
    event.write_text(json.dumps({"before": "1" * 40}))
    with pytest.raises(UserError, match="1111111, what the branch was before this push"):
        find_baseline(None)
    event.write_text(json.dumps({"before": "0" * 40}))  # a new branch
    assert find_baseline(None).commit == branch["main"]


def test_a_merge_is_compared_with_where_its_branches_went_apart(history, branch):
    """Also where the first parent is the change, as by `git merge main` on the branch."""
    history.git("merge", "--quiet", "--no-edit", "main")
    history.git("update-ref", "refs/remotes/origin/main", "HEAD")
    found = find_baseline(None)
    assert found.commit == branch["fork"] and "went apart" in found.what


def test_on_main_it_is_the_commit_before_and_that_is_said(history, branch):
    history.git("checkout", "--quiet", "main")
    found = find_baseline(None)
    assert (found.commit, found.what) == (
        branch["fork"],
        "the commit before, as this one is on main",
    )


def test_without_a_main_branch_it_is_the_commit_before_and_that_is_said(history, branch):
    history.git("update-ref", "-d", "refs/remotes/origin/main")
    history.git("branch", "--quiet", "-D", "main")
    found = find_baseline(None)
    assert (found.commit, found.what) == (
        branch["first"],
        "the commit before, as there is no branch main",
    )


def test_a_comparison_with_itself_is_said(history, branch):
    found = find_baseline("HEAD")
    assert found.commit == branch["second"]
    assert found.what == "HEAD, which is this very commit"


def test_a_first_commit_has_nothing_to_be_compared_with(history):
    history.commit("First")
    with pytest.raises(UserError, match="no commit before this one"):
        find_baseline(None)
