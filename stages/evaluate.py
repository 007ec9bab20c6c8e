"""Score the model on the test images: the one place where they are opened for a number.

`python -m stages.evaluate`, run by `dvc repro`.
"""

from fashion.backend import make_deterministic
from fashion.environment import arithmetic
from fashion.files import write_csv, write_json
from fashion.models import load_model
from fashion.scores import per_class, predictions, summary
from fashion.training import predict
from stages.dataset import read_description
from stages.params import Params
from stages.pipeline import Files, load_split, run


def evaluate(params: Params, files: Files) -> None:
    images, labels = load_split(files, "test")
    make_deterministic(params.seed)
    probabilities = predict(load_model(files["model.keras"]), images)

    class_names = read_description(files["prepared"] / "dataset.json").class_names
    write_json(
        files["test.json"],
        summary(labels, probabilities) | arithmetic(),
    )
    write_csv(files["per_class.csv"], per_class(labels, probabilities, class_names))
    write_csv(files["predictions.csv"], predictions(labels, probabilities, class_names))


if __name__ == "__main__":
    run(evaluate)
