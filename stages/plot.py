"""Draw the plots.

`python -m stages.plot`, run by `dvc repro`.
"""

from fashion.core.dataset import read_description
from fashion.core.files import read_csv
from fashion.core.params import Params
from fashion.plots import figures
from stages import StagePaths, load_split, run

SHOWN = 24  # test images in predictions.png and in mistakes.png


def plot(_: Params, files: StagePaths) -> None:
    """Draw learning curves, confusions, and samples of images and predictions."""
    description = read_description(files["prepared"] / "dataset.json")
    name, class_names = description.name, description.class_names
    history = read_csv(files["history.csv"])
    predictions = read_csv(files["predictions.csv"])
    images, _ = load_split(files, "test")
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    worst = wrong.sort_values("confidence", ascending=False, kind="stable").head(SHOWN)
    plots = {
        "loss.png": figures.learning_curves(
            history, "loss", "cross-entropy (nats)", f"{name}: loss by epoch"
        ),
        "accuracy.png": figures.learning_curves(
            history, "accuracy", "accuracy", f"{name}: accuracy by epoch"
        ),
        "confusion_matrix.png": figures.confusion_matrix(
            predictions, class_names, f"{name}: test images by actual and predicted class"
        ),
        "samples.png": figures.samples(
            *load_split(files, "train"), class_names, f"{name}: training images of every class"
        ),
        "predictions.png": figures.predictions(
            images, predictions.head(SHOWN), f"{name}: the first {SHOWN} test images"
        ),
        "mistakes.png": figures.predictions(
            images[worst.index], worst, f"{name}: the most confident mistakes"
        ),
    }
    for file_name, figure in plots.items():
        figures.save_figure(figure, files[file_name])


if __name__ == "__main__":
    run(plot)
