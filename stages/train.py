"""Train the network and keep its learning curves.

`python -m stages.train`, run by `dvc repro`.
"""

from fashion.backend import keras, make_deterministic
from fashion.environment import arithmetic, record_environment
from fashion.files import write_json
from fashion.models import build_cnn, build_mlp, save_model
from fashion.training import fit
from stages.params import Params
from stages.pipeline import Files, load_split, run

THREADS_OF_CNN = 2  # always, as its bits depend on the number


def train(params: Params, files: Files) -> None:
    training_data = load_split(files, "train")
    validation_data = load_split(files, "validation")

    make_deterministic(params.seed, THREADS_OF_CNN if params.model.name == "cnn" else None)
    model = build(params)
    settings = params.train.model_dump()
    kept = fit(
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
            "epoch": kept["epoch"],
            "train_loss": kept["loss"],
            "train_accuracy": kept["accuracy"],
            "val_loss": kept["val_loss"],
            "val_accuracy": kept["val_accuracy"],
            "loss_gap": kept["val_loss"] - kept["loss"],
        }
        | arithmetic(),
    )


def build(params: Params) -> keras.Model:
    """The network that the section `model` describes."""
    shape, classes, model = params.data.image_shape, len(params.data.class_names), params.model
    if model.name == "cnn":
        return build_cnn(shape, model.filters, classes, dropout=model.dropout)
    normalized = model.batch_normalization
    return build_mlp(
        shape, model.hidden_units, classes, batch_normalization=normalized, dropout=model.dropout
    )


if __name__ == "__main__":
    run(train)
