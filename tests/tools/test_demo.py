import json
import sys

import numpy as np

from fashion.core.dataset import read_dataset
from fashion.data.idx import read_idx
from stages.fetch import fetch_file
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


def test_a_commit_without_a_pipeline_is_refused(toy):
    toy.run("git", "rm", "--quiet", "--cached", "dvc.yaml")
    toy.run("git", "commit", "--quiet", "--message", "Forgotten")
    output = toy.python("tools.demo", status=1)
    assert output == "demo: the last commit has no dvc.yaml. Commit the project first\n"
