import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from fashion.comparisons import compare_losses, parallel_coordinates
from fashion.plots import figures

NAMES = ["T-shirt/top", "Bag", "Coat", "Dress"]
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "loss": [0.9, 0.5, 0.3, 0.2],
        "accuracy": [0.6, 0.7, 0.8, 0.9],
        "val_loss": [0.8, 0.6, 0.55, 0.7],
        "val_accuracy": [0.65, 0.74, 0.71, 0.7],
    }
)
PREDICTIONS = pd.DataFrame(  # Dress is neither actual nor predicted
    {
        "actual": ["Bag", "Bag", "Bag", "Coat", "T-shirt/top", "T-shirt/top", "T-shirt/top"],
        "predicted": ["Bag", "Bag", "Coat", "Coat", "Coat", "Coat", "T-shirt/top"],
        "confidence": [0.5, 0.9994, 0.25, 1.0, 0.75, 0.333333, 0.6],
    }
)
TRIALS = pd.DataFrame(
    {"rate": [0.1, 0.001, 0.01], "kind": ["b", "a", "b"], "val_loss": [0.25, 0.5, 1.25]}
)
LABELS = np.array([2, 0, 0, 1, 0, 2], np.uint8)
IMAGES = np.random.default_rng(0).integers(50, 200, (7, 28, 28), np.uint8)  # no black, no white

FIGURES = {
    "loss": lambda: figures.learning_curves(HISTORY, "loss", "cross-entropy in nats", "Loss"),
    "one epoch": lambda: figures.learning_curves(HISTORY[:1], "loss", "loss", "Loss"),
    "confusion_matrix": lambda: figures.confusion_matrix(PREDICTIONS, NAMES, "Confusions"),
    "samples": lambda: figures.samples(IMAGES[:6], LABELS, NAMES, "Samples", each=2),
    "predictions": lambda: figures.predictions(IMAGES, PREDICTIONS, "Predictions"),
    "four runs": lambda: compare_losses(dict.fromkeys("abcd", HISTORY), "Losses"),
    "trials": lambda: parallel_coordinates(
        TRIALS, "val_loss", {"rate"}, {"rate": 0.75, "kind": 0.25}, "Trials"
    ),
}


def texts(artists) -> list[str]:
    """Return the text of each artist."""
    return [artist.get_text() for artist in artists]


@pytest.mark.filterwarnings("error")  # such as about a character that the font lacks
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_files_have_neither_version_nor_time_which_would_change_their_bytes(draw, tmp_path):
    figures.save_figure(figure := draw(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == tuple((figure.get_size_inches() * 150).astype(int))
        assert set(picture.info) <= {"dpi"}


@pytest.mark.parametrize(("quantity", "label"), [("loss", "nats"), ("accuracy", "share right")])
def test_learning_curves_show_both_splits_and_mark_the_lowest_validation_loss(quantity, label):
    [axes] = figures.learning_curves(HISTORY, quantity, label, "A title").axes
    mark, *curves = axes.lines
    assert set(mark.get_xdata()) == {3}
    assert texts(axes.texts) == ["lowest validation loss: epoch 3"]
    for line, column in zip(curves, (quantity, f"val_{quantity}"), strict=True):
        assert line.get_xdata().tolist() == [1, 2, 3, 4]
        assert line.get_ydata().tolist() == HISTORY[column].tolist()
    assert texts(axes.get_legend().texts) == ["training", "validation"]
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("A title", "epoch", label)


def test_compared_losses_have_a_panel_per_run_with_overfitting_shaded():
    figure = compare_losses({"a": HISTORY, "b": HISTORY[:2]}, "Losses")
    assert figure.get_suptitle() == "Losses"
    assert [panel.get_title() for panel in figure.axes] == ["a", "b"]
    for panel, epochs in zip(figure.axes, (4, 2), strict=True):
        training, validation, best = panel.lines
        assert training.get_ydata().tolist() == HISTORY["loss"].tolist()[:epochs]
        assert validation.get_ydata().tolist() == HISTORY["val_loss"].tolist()[:epochs]
        assert best.get_xydata().tolist() == [[3, 0.55] if epochs == 4 else [2, 0.6]]
    [shade] = figure.axes[0].collections  # where the validation loss is higher
    assert {x for path in shade.get_paths() for x in path.vertices[:, 0]} == {2, 3, 4}
    five = compare_losses(dict.fromkeys("abcde", HISTORY), "Losses")  # in a grid of six
    assert [panel.axison for panel in five.axes] == [True] * 5 + [False]
    labels = [panel.get_xlabel() for panel in five.axes]
    assert labels == ["", "", "epoch", "epoch", "epoch", ""]  # the lowest of each column


@pytest.mark.parametrize(("longest", "right_edges"), [(4, {4}), (5, {1, 5})])
def test_runs_share_the_epoch_axis_unless_one_is_more_than_four_times_as_long(longest, right_edges):
    long = pd.concat([HISTORY, HISTORY[-1:].assign(epoch=5)])[:longest]
    panels = compare_losses({"long": long, "short": HISTORY[:1]}, "Losses").axes
    assert {int(panel.get_xlim()[1]) for panel in panels} == right_edges
    assert len({panel.get_ylim() for panel in panels}) == 1


def test_parallel_coordinates_have_a_line_per_trial_and_the_best_in_red_on_top():
    [axes] = FIGURES["trials"]().axes
    trials = [line for line in axes.lines if len(line.get_xdata()) == 3]
    from_the_worst = [[0.5, 1, 1], [0, 0, 0.25], [1, 1, 0]]  # the rate by its logarithm
    np.testing.assert_allclose([line.get_ydata() for line in trials], from_the_worst, atol=1e-9)
    assert [to_hex(line.get_color()) == figures.WRONG for line in trials] == [False, False, True]
    names = ["rate (log)\nexplains 75%", "kind\nexplains 25%", "val_loss"]
    assert texts(axes.get_xticklabels()) == names
    assert set(texts(axes.texts)) == {"0.001", "0.1", "a", "b", "0.25", "1.25"}
    shares = {"rate": 0, "kind": 1}
    [axes] = parallel_coordinates(TRIALS.assign(rate=7), "val_loss", set(), shares, "One").axes
    assert [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 3] == 3 * [0.5]


def test_a_confusion_matrix_has_counts_and_is_shaded_by_the_share_of_the_row():
    [axes] = FIGURES["confusion_matrix"]().axes
    written = {
        text.get_position()[::-1]: (text.get_text(), text.get_color()) for text in axes.texts
    }
    assert written == {  # by actual and predicted class
        (0, 0): ("1", "black"),
        (0, 2): ("2", "white"),
        (1, 1): ("2", "white"),
        (1, 2): ("1", "black"),
        (2, 2): ("1", "white"),
    }
    [image] = axes.images
    expected = [[1 / 3, 0, 2 / 3, 0], [0, 2 / 3, 1 / 3, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(image.get_array(), expected)
    assert image.get_clim() == (0, 1)
    titles = (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())
    assert titles == ("Confusions", "predicted", "actual")
    assert texts(axes.get_xticklabels()) == texts(axes.get_yticklabels()) == NAMES


def test_a_confusion_matrix_of_many_classes_with_long_names_is_legible():
    names = [f"{number:02} {'name ' * 9}" for number in range(47)]
    table = pd.DataFrame({"actual": names, "predicted": names[::-1]})
    figure = figures.confusion_matrix(table, names, "x")
    figure.draw_without_rendering()
    [axes] = figure.axes
    assert axes.get_window_extent().width / figure.dpi / 47 > 0.3  # inches per cell
    labels = texts(axes.get_yticklabels())
    assert len(set(labels)) == 47 and max(map(len, labels)) <= 24
    assert axes.yaxis.label.get_window_extent().x0 >= 0


def tiles(figure: Figure, rows: int, columns: int) -> list[list[np.ndarray | None]]:
    """Return the images of 28x28 pixels in a plot by row and column; None where it is blank."""
    [axes] = figure.axes
    [image] = axes.images
    assert image.get_clim() == (0, 255)  # not stretched to the darkest and lightest pixel
    whole = np.ma.filled(image.get_array(), np.nan)
    tops, lefts = (
        np.linspace(0, length - 28, count).astype(int)
        for length, count in zip(whole.shape, (rows, columns), strict=True)
    )
    cut = [[whole[top : top + 28, left : left + 28] for left in lefts] for top in tops]
    filled = sum(np.isfinite(one).sum() for row in cut for one in row)
    assert filled == np.isfinite(whole).sum()  # nothing in the gaps
    return [[None if np.isnan(one).all() else one for one in row] for row in cut]


def test_samples_are_the_first_of_each_class_in_a_row_per_class():
    figure = FIGURES["samples"]()
    for row, expected in zip(tiles(figure, 4, 2), [[1, 2], [3], [0, 5], []], strict=True):
        found = [one for one in row if one is not None]
        np.testing.assert_array_equal(np.reshape(found, (-1, 28, 28)), IMAGES[expected])
    [axes] = figure.axes
    assert figure.get_suptitle() == "Samples" and texts(axes.get_yticklabels()) == NAMES
    assert axes.get_yticks().tolist() == [13.5, 43.5, 73.5, 103.5]


def test_predictions_are_ticked_in_green_or_crossed_in_red():
    figure = FIGURES["predictions"]()
    assert figure.get_suptitle() == "Predictions"
    words = figure.axes[0].texts
    assert texts(words) == [
        "✓ Bag\n50.0% sure",
        "✓ Bag\n99.9% sure",
        "✗ Coat (is Bag)\n25.0% sure",
        "✓ Coat\n100.0% sure",
        "✗ Coat (is T-shirt/top)\n75.0% sure",
        "✗ Coat (is T-shirt/top)\n33.3% sure",
        "✓ T-shirt/top\n60.0% sure",
    ]
    colours = {"✓": "#1b7837", "✗": "#b2182b"}
    assert all(to_hex(text.get_color()) == colours[text.get_text()[0]] for text in words)


@pytest.mark.parametrize(("items", "rows"), [(6, 1), (7, 2)])
def test_predictions_fill_rows_of_six_with_each_text_above_its_image(items, rows):
    figure = figures.predictions(IMAGES[:items], PREDICTIONS[:items], "Predictions")
    shown = [one for row in tiles(figure, rows, 6) for one in row]
    assert all(one is None for one in shown[items:])
    np.testing.assert_array_equal(shown[:items], IMAGES[:items])
    expected = [(13.5 + i % 6 * 30, -0.5 + i // 6 * 38) for i in range(items)]
    assert [text.xy for text in figure.axes[0].texts] == expected


@pytest.mark.parametrize("shape", [(18, 6), (6, 18), (100, 100)])
def test_long_class_names_reach_into_no_image_nor_other_name(shape):
    names = ["a_rather_long_name_(in_brackets)", f"a {'long ' * 20} name"]
    table = pd.DataFrame({"actual": names[0], "predicted": [names[1]] * 12, "confidence": 0.5})
    figure = figures.predictions(np.zeros((12, *shape), np.uint8), table, "long")
    figure.draw_without_rendering()
    [axes] = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes[:6]))
    pixel = axes.transData.transform((0, shape[0] - 0.5))  # below the images of the first row
    assert max(box.y1 for box in boxes[6:]) <= pixel[1]


def test_a_picture_has_room_for_the_bars_of_all_classes():
    shares = {f"class {i}": 1 / 47 for i in range(47)}
    figure = figures.top_classes([(image, "a picture", shares) for image in IMAGES[:2]])
    shown = [axes.images[0].get_array() for axes in figure.axes[::2]]
    np.testing.assert_array_equal(shown, IMAGES[:2])
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[1].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))


def test_a_plot_without_predictions_says_so():
    figure = figures.predictions(IMAGES[:0], PREDICTIONS[:0], "mistakes")
    assert texts(figure.texts)[-1] == "There are none."


def test_letters_that_no_font_has_are_found():
    assert figures.missing_letters(["Müller", "שלום", "عربى", "0 $|"]) == ""
    assert figures.missing_letters(["a\U0010fffd", "\U0010fffdb"]) == "\U0010fffd"
