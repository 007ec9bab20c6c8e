import json
import sys

import pytest

from tests.support.repository import Repository, copy_toy_stages

NAME = "synthetic shapes (not Fashion-MNIST)"


def test_the_demo_runs_on_synthetic_data_and_changes_no_tracked_file(repository):
    # toy stages take no time
    copy_toy_stages(repository.folder, "train", "evaluate", "plot")
    repository.set("name=Fashion-MNIST", "train.epochs=1")
    repository.commit("A commit that names the real data")
    before = repository.results()
    program = "from tools.demo import run_demo; run_demo(600, 200)"
    output = repository.run(sys.executable, "-c", program)
    assert NAME in output
    assert repository.results() == before and repository.run("git", "status", "--porcelain") == ""
    assert repository.experiments() == {}

    workspace = repository.folder / ".dvc/tmp/demo"
    data = json.loads((workspace / "metrics/data.json").read_text())
    assert data["name"] == NAME and data["images"]["test"] == 200
    assert data["images_per_class"]["test"]["triangle"] == 20
    assert len(list((workspace / "plots").glob("*.png"))) == 6


@pytest.mark.parametrize(
    ("committed", "message"),
    [
        ([], "this folder is no Git repository with a commit"),
        (["README.md"], "the last commit has no dvc.yaml"),
    ],
)
def test_a_project_without_a_commit_is_refused(toy, tmp_path, committed, message):
    fresh = Repository(tmp_path / "fresh")
    toy.run("git", "worktree", "add", "--quiet", "--detach", str(fresh.folder))
    (fresh.folder / ".git").unlink()
    fresh.run("git", "init", "--quiet")
    for name in committed:
        fresh.run("git", "add", name)
        fresh.run("git", "commit", "--quiet", "--message", "The first page")
    output = fresh.python("tools.demo", status=1)
    assert output.startswith(f"demo: {message}") and len(output.splitlines()) == 1
