"""Train the network on the training split, and follow it on the validation split.

`python -m stages.train`, run by `dvc repro`.
"""

import pandas as pd

from fashion.core.dataset import read_description
from fashion.core.environment import environment
from fashion.core.files import DECIMALS, atomic_write, write_json
from fashion.core.params import Params
from stages import StagePaths, load_split, run


def train(params: Params, files: StagePaths) -> None:
    """Write the model, its history and its training metrics."""
    training_data, validation_data = load_split(files, "train"), load_split(files, "validation")
    description = read_description(files["prepared"] / "dataset.json")

    # TensorFlow takes seconds to import, so missing data is reported first
    from fashion.model.backend import device, make_deterministic
    from fashion.model.networks import THREADS, build, save_model
    from fashion.model.training import fit

    make_deterministic(params.seed, THREADS.get(params.model.name))
    model = build(params.model, description.image_shape, len(description.class_names))
    history = fit(model, training_data, validation_data, params.train, seed=params.seed)
    with atomic_write(files["history.csv"]) as tmp_path:
        pd.DataFrame(history).round(DECIMALS).to_csv(tmp_path, index=False, lineterminator="\n")
    last = history[-1]
    save_model(model, files["model.keras"])
    write_json(
        files["train.json"],
        {
            "val_loss": last["val_loss"],
            "val_accuracy": last["val_accuracy"],
            "loss_gap": last["val_loss"] - last["loss"],
            "parameters": model.count_params(),
        }
        | environment(params.arithmetic)
        | device(),
    )


if __name__ == "__main__":
    run(train)
