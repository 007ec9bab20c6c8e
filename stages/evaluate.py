"""Score the model on the test images: the one place where they are opened for a number.

`python -m stages.evaluate`, run by `dvc repro`.
"""

from collections.abc import Iterator

import pandas as pd

from fashion.core.dataset import read_description
from fashion.core.environment import environment
from fashion.core.files import write_csv, write_json
from fashion.core.params import Params
from fashion.metrics import Tally, classification_metrics, per_class, predictions
from stages import StagePaths, load_split, run

PIECE = 10_000  # images scored at a time; bounds memory, as each has a probability for every class


def evaluate(params: Params, files: StagePaths) -> None:
    images, labels = load_split(files, "test")

    # TensorFlow takes seconds to import, so missing data is reported first
    from fashion.model.backend import device, make_deterministic
    from fashion.model.networks import load_model
    from fashion.model.training import predict

    make_deterministic(params.seed)
    model = load_model(files["model.keras"])
    class_names = read_description(files["prepared"] / "dataset.json").class_names
    tally = Tally(class_names)

    def scored() -> Iterator[pd.DataFrame]:
        for start in range(0, len(labels), PIECE):
            piece = slice(start, start + PIECE)
            probabilities = predict(model, images[piece])
            tally.add(labels[piece], probabilities)
            yield predictions(labels[piece], probabilities, class_names)

    write_csv(files["predictions.csv"], scored())
    write_json(files["test.json"], classification_metrics(tally) | environment() | device())
    write_csv(files["per_class.csv"], per_class(tally))


if __name__ == "__main__":
    run(evaluate)
