"""The real data against what its publishers say of it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError
from fashion.data.idx import read_idx
from fashion.data.statistics import pixel_mean_and_std
from stages.fetch import DATA_DIR_ENV, fetch_file

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> dict[str, Path]:
    """The four files, from wherever the fetch stage finds them."""
    dataset, folder = read_dataset(PROJECT / "dataset.yaml"), tmp_path_factory.mktemp("raw")
    sources = [str(PROJECT / "data/raw"), os.environ.get(DATA_DIR_ENV) or "", *dataset.sources]
    try:
        for _, file in dataset.files:
            fetch_file(file, [source for source in sources if source], folder / file.name)
    except UserError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the real data: {error}")
        pytest.skip(f"the real data is not within reach: {error}")
    return {key: folder / file.name for key, file in dataset.files}


def test_counts_and_first_label_are_the_published_ones(raw):
    labels = {split: read_idx(raw[f"{split}_labels"], (None,)) for split in ("train", "test")}
    assert np.bincount(labels["train"]).tolist() == [6000] * 10
    assert np.bincount(labels["test"]).tolist() == [1000] * 10
    assert labels["train"][0] == 9


def test_pixel_statistics_are_the_published_ones(raw):
    train = read_idx(raw["train_images"], (60_000, 28, 28))
    mean, std = pixel_mean_and_std(train)
    assert mean * 255 == pytest.approx(72.94035, abs=1e-5)
    assert mean == pytest.approx(0.28604, abs=5e-6) and std == pytest.approx(0.35302, abs=5e-6)
    assert pixel_mean_and_std([read_idx(raw["test_images"], (10_000, 28, 28))])[0] == pytest.approx(
        0.28685, abs=5e-6
    )


def test_the_committed_description_is_that_of_the_real_data():
    described = json.loads((PROJECT / "metrics/data.json").read_text())
    assert described["images"] == {"train": 54_000, "validation": 6_000, "test": 10_000}
    assert set(described["images_per_class"]["validation"].values()) == {600}
    assert (described["pixel_mean"], described["pixel_std"]) == (0.286041, 0.353024)


def test_the_committed_accuracy_is_where_published_networks_of_this_kind_are():
    scores = json.loads((PROJECT / "metrics/test.json").read_text())
    assert 0.86 <= scores["accuracy"] <= 0.89
