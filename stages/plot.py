"""Draw the pictures.

`python -m stages.plot`, run by `dvc repro`.
"""

import pandas as pd

from fashion import figures
from fashion.core.dataset import read_description
from fashion.core.params import Params
from fashion.figures import save_figure
from stages.pipeline import StagePaths, load_split, run

SHOWN = 24  # test images in predictions.png and in mistakes.png


def plot(_: Params, files: StagePaths) -> None:
    description = read_description(files["prepared"] / "dataset.json")
    name, class_names = description.name, description.class_names
    history = pd.read_csv(files["history.csv"])
    predictions = pd.read_csv(files["predictions.csv"], keep_default_na=False)
    test_images, _ = load_split(files, "test")

    save_figure(
        figures.learning_curves(history, "loss", "cross-entropy (nats)", f"{name}: loss by epoch"),
        files["loss.png"],
    )
    save_figure(
        figures.learning_curves(history, "accuracy", "accuracy", f"{name}: accuracy by epoch"),
        files["accuracy.png"],
    )
    save_figure(
        figures.confusion_matrix(
            predictions, class_names, f"{name}: test images by actual and predicted class"
        ),
        files["confusion_matrix.png"],
    )
    save_figure(
        figures.samples(
            *load_split(files, "train"), class_names, f"{name}: training images of every class"
        ),
        files["samples.png"],
    )
    save_figure(
        figures.predictions(
            test_images, predictions.head(SHOWN), f"{name}: the first {SHOWN} test images"
        ),
        files["predictions.png"],
    )
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    worst = wrong.sort_values("confidence", ascending=False, kind="stable").head(SHOWN)
    save_figure(
        figures.predictions(
            test_images[worst.index], worst, f"{name}: the most confident mistakes"
        ),
        files["mistakes.png"],
    )


if __name__ == "__main__":
    run(plot)
