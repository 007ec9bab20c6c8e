"""Which data each picture shows; tests/fashion/test_figures.py tests how."""

import numpy as np
import pandas as pd
import pytest

from fashion.plots import figures
from stages import StagePaths
from stages.plot import plot


@pytest.fixture
def drawn(repository, monkeypatch):
    """Return the figures by file name, and the repository, with three mistakes of the model."""
    table = pd.read_csv(repository.folder / "plots/predictions.csv")
    table["predicted"] = table["actual"]
    table.loc[[5, 9, 17], "predicted"] = table["actual"][[5, 9, 17]].map(
        lambda name: "Bag" if name != "Bag" else "Coat"
    )
    table.loc[[5, 9, 17], "confidence"] = [0.3, 0.9, 0.6]
    table.to_csv(repository.folder / "plots/predictions.csv", index=False)
    found = {}
    monkeypatch.chdir(repository.folder)
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: found.update({path: figure}))
    plot(None, StagePaths("plot"))
    return {path.as_posix(): figure for path, figure in found.items()}, table


def prepared(name: str) -> np.ndarray:
    return np.load(f"data/prepared/{name}.npy")


def shown(figure, height: int = 28) -> tuple[list[str], np.ndarray]:
    """Return the texts of a picture of images, without spaces, and its first image."""
    [axes] = figure.axes
    words = ["".join(text.get_text().split()) for text in axes.texts]
    return words, axes.images[0].get_array()[:height, :height]


def test_mistakes_are_the_most_confident_ones_first(drawn):
    pictures, table = drawn
    words, image = shown(pictures["plots/mistakes.png"])
    expected = [
        f"✗ {table['predicted'][i]} (is {table['actual'][i]}) {sure}% sure".replace(" ", "")
        for i, sure in ((9, "90.0"), (17, "60.0"), (5, "30.0"))
    ]
    assert words == expected
    np.testing.assert_array_equal(image, prepared("test_images")[9])


def test_predictions_are_of_the_first_test_images(drawn):
    pictures, table = drawn
    words, image = shown(pictures["plots/predictions.png"])
    assert len(words) == 24
    assert [i for i, word in enumerate(words) if word.startswith("✗")] == [5, 9, 17]
    assert words[0] == f"✓{table['actual'][0]}{table['confidence'][0]:.1%}sure".replace(" ", "")
    np.testing.assert_array_equal(image, prepared("test_images")[0])


def test_samples_are_training_images_and_confusions_are_counted_on_test_images(drawn):
    _, image = shown(drawn[0]["plots/samples.png"])
    first = np.flatnonzero(prepared("train_labels") == 0)[0]
    np.testing.assert_array_equal(image, prepared("train_images")[first])
    counts, _ = shown(drawn[0]["plots/confusion_matrix.png"])
    assert sum(map(int, counts)) == 400


@pytest.mark.parametrize("quantity", ["loss", "accuracy"])
def test_curves_are_those_of_the_history(drawn, quantity):
    history = pd.read_csv("plots/history.csv")
    [axes] = drawn[0][f"plots/{quantity}.png"].axes
    training, validation = axes.lines[1:]
    assert training.get_ydata().tolist() == history[quantity].tolist()
    assert validation.get_ydata().tolist() == history[f"val_{quantity}"].tolist()
    assert axes.get_title().endswith(f": {quantity} by epoch")
