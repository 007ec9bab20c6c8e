import json
from pathlib import Path

import numpy as np
import pytest

from fashion.core.strict_yaml import read_yaml

pytestmark = pytest.mark.xdist_group("TensorFlow")  # so that one process loads it


def test_the_plain_script_does_what_the_experiments_do(repository, tmp_path):
    """Same data, epochs, metrics and pictures, on the drawn garments."""
    epochs = {"short": 1, "longer": 2}
    runs = ", ".join(
        f"{name}: {{train.epochs: {count}, train.batch_size: 64}}" for name, count in epochs.items()
    )
    repository.set(f"experiments={{{runs}}}")
    out = tmp_path / "out"
    repository.python("bench.baseline", str(out))
    pictures = {path.name for path in (repository.folder / "plots").glob("*.png")}
    assert pictures >= {"loss.png", "confusion_matrix.png", "mistakes.png"}
    for name, count in epochs.items():
        assert {path.name for path in (out / name).glob("*.png")} == pictures
        metrics = json.loads((out / name / "test.json").read_text())
        assert metrics.keys() == json.loads(repository.read("metrics/test.json")).keys()
        assert len((out / name / "history.csv").read_text().splitlines()) == 1 + count
    assert (out / "experiments.png").exists()


def test_the_plain_script_keeps_back_the_same_images(repository, monkeypatch):
    """It mixes them, so they are compared in the order of their bytes."""
    from bench.baseline import read

    monkeypatch.chdir(repository.folder)
    splits = read(
        read_yaml(Path("dataset.yaml"))["files"], read_yaml(Path("params.yaml"))["prepare"]
    )
    assert splits.keys() == {"train", "validation", "test"}
    for split, (pixels, labels) in splits.items():
        prepared = [np.load(f"data/prepared/{split}_{part}.npy") for part in ("images", "labels")]
        assert in_order(pixels, labels) == in_order(*prepared)


def in_order(pixels: np.ndarray, labels: np.ndarray) -> list[bytes]:
    return sorted(
        bytes([label]) + image.tobytes() for image, label in zip(pixels, labels, strict=True)
    )
