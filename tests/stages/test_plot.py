"""Test which data each plot shows; tests/fashion/test_figures.py tests how."""

import numpy as np
import pandas as pd
import pytest

from fashion.plots import figures
from stages import StagePaths
from stages.plot import plot
from tests.support.repository import Repository

MISTAKES = {9: 0.9, 17: 0.6, 5: 0.3}  # test images with their confidences


@pytest.fixture(scope="module")
def drawn(built, tmp_path_factory):
    """Return the figures by file name, the predictions and the history, with three mistakes."""
    folder = Repository(built).copy(tmp_path_factory.mktemp("plot") / "project").folder
    table, found = pd.read_csv(folder / "plots/predictions.csv"), {}
    table["predicted"] = table["actual"]
    one, other = table["actual"].unique()[:2]
    for i, confidence in MISTAKES.items():
        table.loc[i, "predicted"] = one if table["actual"][i] != one else other
        table.loc[i, "confidence"] = confidence
    table.to_csv(folder / "plots/predictions.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(figures, "save_figure", lambda figure, path: found.update({path: figure}))
        plot(None, StagePaths("plot"))
    history = pd.read_csv(folder / "plots/history.csv")
    return {path.stem: figure for path, figure in found.items()}, table, history


def shown(figure) -> tuple[list[str], np.ndarray]:
    """Return the texts of a plot of images, without spaces, and its first image."""
    [axes] = figure.axes
    words = ["".join(text.get_text().split()) for text in axes.texts]
    return words, axes.images[0].get_array()[:28, :28]


def test_mistakes_are_the_most_confident_ones_first(drawn, built):
    plots, table, _ = drawn
    words, image = shown(plots["mistakes"])
    rows = table.loc[list(MISTAKES)].itertuples()
    texts = [f"✗ {row.predicted} (is {row.actual}) {row.confidence:.1%} sure" for row in rows]
    assert words == [text.replace(" ", "") for text in texts]
    np.testing.assert_array_equal(image, np.load(built / "data/prepared/test_images.npy")[9])


def test_predictions_are_of_the_first_test_images(drawn, built):
    plots, table, _ = drawn
    words, image = shown(plots["predictions"])
    assert len(words) == 24
    assert [i for i, word in enumerate(words) if word.startswith("✗")] == sorted(MISTAKES)
    assert words[0] == f"✓{table['actual'][0]}{table['confidence'][0]:.1%}sure".replace(" ", "")
    np.testing.assert_array_equal(image, np.load(built / "data/prepared/test_images.npy")[0])


def test_samples_are_training_images_and_confusions_are_counted_on_test_images(drawn, built):
    _, image = shown(drawn[0]["samples"])
    images, labels = (np.load(built / f"data/prepared/train_{x}.npy") for x in ("images", "labels"))
    np.testing.assert_array_equal(image, images[np.flatnonzero(labels == 0)[0]])
    counts, _ = shown(drawn[0]["confusion_matrix"])
    assert sum(map(int, counts)) == 400


@pytest.mark.parametrize("quantity", ["loss", "accuracy"])
def test_curves_are_those_of_the_history(drawn, quantity):
    plots, _, history = drawn
    [axes] = plots[quantity].axes
    training, validation = axes.lines[1:]
    assert training.get_ydata().tolist() == history[quantity].tolist()
    assert validation.get_ydata().tolist() == history[f"val_{quantity}"].tolist()
    assert axes.get_title().endswith(f": {quantity} by epoch")
