"""Train the network and keep its learning curves.

`python -m stages.train`, run by `dvc repro`.
"""

from fashion.backend import make_deterministic
from fashion.environment import environment
from fashion.files import write_json
from fashion.models import build_mlp, save_model
from fashion.training import fit
from stages.params import Params
from stages.pipeline import Files, load_split, run


def train(params: Params, files: Files) -> None:
    training_data = load_split(files, "train")
    validation_data = load_split(files, "validation")

    make_deterministic(params.seed)
    model = build_mlp(params.data.image_shape, params.model.hidden_units, classes=len(params.data.class_names))
    kept = fit(
        model,
        training_data,
        validation_data,
        epochs=params.train.epochs,
        batch_size=params.train.batch_size,
        learning_rate=params.train.learning_rate,
        keep=params.train.keep,
        seed=params.seed,
        history=files["history.csv"],
    )

    save_model(model, files["model.keras"])
    write_json(
        files["train.json"],
        {
            "epoch": kept["epoch"],
            "train_loss": kept["loss"],
            "train_accuracy": kept["accuracy"],
            "val_loss": kept["val_loss"],
            "val_accuracy": kept["val_accuracy"],
            "loss_gap": kept["val_loss"] - kept["loss"],
        },
    )
    write_json(files["environment.json"], environment())


if __name__ == "__main__":
    run(train)
