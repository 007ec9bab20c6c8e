"""Train the network and keep its learning curves.

`python -m stages.train`, run by `dvc repro`.
"""

from typing import TYPE_CHECKING

from fashion.core.dataset import Description, read_description
from fashion.core.files import write_json
from fashion.core.params import Model, Params
from fashion.model.environment import arithmetic, record_environment
from stages.pipeline import StagePaths, load_split, run

if TYPE_CHECKING:
    from fashion.model.backend import keras

THREADS_OF_CNN = 2  # always, as its bits depend on the number


def train(params: Params, files: StagePaths) -> None:
    training_data = load_split(files, "train")
    validation_data = load_split(files, "validation")

    # TensorFlow takes seconds to import, so only where there are data
    from fashion.model.backend import make_deterministic
    from fashion.model.networks import save_model
    from fashion.model.training import fit

    make_deterministic(params.seed, THREADS_OF_CNN if params.model.name == "cnn" else None)
    model = build(params.model, read_description(files["prepared"] / "dataset.json"))
    settings = params.train.model_dump()
    last = fit(
        model,
        training_data,
        validation_data,
        **settings,
        seed=params.seed,
        history=files["history.csv"],
    )

    save_model(model, files["model.keras"])
    record_environment(files["environment.json"], files["model.keras"])
    write_json(
        files["train.json"],
        {
            "epoch": last["epoch"],
            "val_loss": last["val_loss"],
            "val_accuracy": last["val_accuracy"],
            "loss_gap": last["val_loss"] - last["loss"],
            "parameters": model.count_params(),
        }
        | arithmetic(),
    )


def build(model: Model, description: Description) -> "keras.Model":
    """Build the network that the section `model` describes, for images as described."""
    from fashion.model.networks import build_cnn, build_mlp

    shape, classes = description.image_shape, len(description.class_names)
    if model.name == "cnn":
        return build_cnn(shape, model.filters, classes, dropout=model.dropout)
    return build_mlp(
        shape,
        model.hidden_units,
        classes,
        batch_normalization=model.batch_normalization,
        dropout=model.dropout,
    )


if __name__ == "__main__":
    run(train)
