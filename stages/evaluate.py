"""Score the model on the test images: the one place where they are opened for a number.

`python -m stages.evaluate`, run by `dvc repro`.
"""

from fashion.environment import arithmetic
from fashion.files import write_csv, write_json
from fashion.metrics import classification_metrics, per_class, predictions
from stages.dataset import read_description
from stages.params import Params
from stages.pipeline import StagePaths, load_split, run


def evaluate(params: Params, files: StagePaths) -> None:
    images, labels = load_split(files, "test")

    # TensorFlow takes seconds to import, so only where there are data
    from fashion.backend import make_deterministic
    from fashion.models import load_model
    from fashion.training import predict

    make_deterministic(params.seed)
    probabilities = predict(load_model(files["model.keras"]), images)

    class_names = read_description(files["prepared"] / "dataset.json").class_names
    write_json(
        files["test.json"],
        classification_metrics(labels, probabilities) | arithmetic(),
    )
    write_csv(files["per_class.csv"], per_class(labels, probabilities, class_names))
    write_csv(files["predictions.csv"], predictions(labels, probabilities, class_names))


if __name__ == "__main__":
    run(evaluate)
