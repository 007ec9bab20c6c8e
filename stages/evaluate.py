"""Score the model on the test images. No other stage computes a score from them.

`python -m stages.evaluate`, run by `dvc repro`.
"""

import pandas as pd

from fashion.core.dataset import read_description
from fashion.core.environment import environment
from fashion.core.files import write_csv, write_json
from fashion.core.params import Params
from fashion.metrics import classification_metrics, per_class, predictions
from stages import StagePaths, load_split, run

PIECE = 10_000  # images scored at a time; bounds the memory of probabilities, one per class


def evaluate(params: Params, files: StagePaths) -> None:
    """Write predictions and metrics of the test images."""
    images, labels = load_split(files, "test")

    # TensorFlow takes seconds to import, so missing data is reported first
    from fashion.model.backend import device, make_deterministic
    from fashion.model.networks import load_model
    from fashion.model.training import predict

    make_deterministic(params.seed)
    model = load_model(files["model.keras"])
    class_names = read_description(files["prepared"] / "dataset.json").class_names
    tables = []
    for start in range(0, len(labels), PIECE):
        piece = slice(start, start + PIECE)
        tables.append(predictions(labels[piece], predict(model, images[piece]), class_names))
    table = pd.concat(tables, ignore_index=True)
    write_csv(files["predictions.csv"], table)
    metrics = classification_metrics(table) | environment(params.arithmetic) | device()
    write_json(files["test.json"], metrics)
    write_csv(files["per_class.csv"], per_class(table))


if __name__ == "__main__":
    run(evaluate)
