import json
import sys

import numpy as np
import pytest

from fashion.core.dataset import read_dataset
from fashion.data.idx import read_idx
from stages.fetch import fetch_file
from tests.support.repository import Repository
from tools.synthetic import synthetic_images

NAME = "synthetic shapes (not Fashion-MNIST)"


def test_the_demo_runs_on_synthetic_data_and_changes_no_tracked_file(toy):
    before = toy.results()
    program = "from tools.demo import run_demo; run_demo(600, 200)"
    assert NAME in toy.run(sys.executable, "-c", program)
    assert toy.results() == before and toy.run("git", "status", "--porcelain") == ""
    assert toy.experiments() == {}

    workspace = toy.folder / ".dvc/tmp/demo"
    data = json.loads((workspace / "metrics/data.json").read_text())
    assert data["name"] == NAME and "triangle" in data["images_per_class"]["test"]
    assert len(list((workspace / "plots").glob("*.png"))) == 6
    described = read_dataset(workspace / "dataset.yaml")
    for split, count, seed in (("train", 600, 0), ("test", 200, 1)):
        file = getattr(described.files, f"{split}_images")
        fetch_file(file, described.sources, toy.folder / file.name)
        images = read_idx(toy.folder / file.name, (count, *described.image_shape))
        np.testing.assert_array_equal(images, synthetic_images(count, seed)[0])


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
