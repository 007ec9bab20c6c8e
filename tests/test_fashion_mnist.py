"""The real data and its results agree with published figures."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError
from fashion.data.idx import iterate_idx, read_idx
from fashion.data.statistics import pixel_mean_and_std
from stages.fetch import DATA_DIRS, fetch_file

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> dict[str, Path]:
    """Return the four files, from where the fetch stage finds them."""
    dataset, folder = read_dataset(PROJECT / "dataset.yaml"), tmp_path_factory.mktemp("raw")
    named = filter(None, map(os.environ.get, DATA_DIRS))
    sources = [str(PROJECT / "data/raw"), *named, *dataset.sources]
    try:
        for _, file in dataset.files:
            fetch_file(file, [source for source in sources if source], folder / file.name)
    except UserError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the real data: {error}")
        pytest.skip(f"the real data is not within reach: {error}")
    return {key: folder / file.name for key, file in dataset.files}


@pytest.mark.parametrize(
    ("split", "items", "first", "mean", "std"),
    [("train", 60_000, 9, 0.28604, 0.35302), ("test", 10_000, 9, 0.28685, 0.35244)],
)
def test_counts_and_pixel_statistics_are_the_published_ones(raw, split, items, first, mean, std):
    labels = read_idx(raw[f"{split}_labels"], (items,))
    assert labels[0] == first and np.bincount(labels).tolist() == [items // 10] * 10
    found = pixel_mean_and_std(iterate_idx(raw[f"{split}_images"], (items, 28, 28)))
    assert found == pytest.approx((mean, std), abs=5e-6)


def test_the_committed_description_belongs_to_the_real_data():
    described = json.loads((PROJECT / "metrics/data.json").read_text())
    assert described["images"] == {"train": 54_000, "validation": 6_000, "test": 10_000}
    assert set(described["images_per_class"]["validation"].values()) == {600}
    assert (described["pixel_mean"], described["pixel_std"]) == (0.286041, 0.353024)


def test_the_committed_accuracy_is_in_the_range_of_published_networks_of_this_kind():
    scores = json.loads((PROJECT / "metrics/test.json").read_text())
    assert 0.86 <= scores["accuracy"] <= 0.89
