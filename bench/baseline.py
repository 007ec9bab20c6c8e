"""Do what people would write instead: one script, `model.fit` for one run after the other.

`python -m bench.baseline FOLDER` reads the split in data/prepared and does what the experiments do:
the same model, epochs and batch sizes, validation after every epoch, the test metrics, the same
pictures, into FOLDER. It is the peer of bench/speed.py, written to be quick: pixels are scaled
once, and Keras holds the arrays in memory.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from fashion import figures
from fashion.metrics import Tally, classification_metrics, per_class, predictions

PREPARED = Path("data/prepared")


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels from 0 to 255 and labels, both uint8."""
    return np.load(PREPARED / f"{split}_images.npy"), np.load(PREPARED / f"{split}_labels.npy")


def scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype("float32") / 255


def build() -> keras.Sequential:
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(784, activation="relu"),
            keras.layers.Dense(392, activation="relu"),
            keras.layers.Dense(196, activation="relu"),
            keras.layers.Dense(49, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main(folder: Path) -> None:
    params, dataset, experiments = (
        YAML(typ="safe").load(Path(f"{name}.yaml")) for name in ("params", "dataset", "experiments")
    )
    class_names = dataset["class_names"]
    train_pixels, train_labels = load("train")
    validation_pixels, validation_labels = load("validation")
    test_pixels, test_labels = load("test")
    train_images, validation_images, test_images = map(
        scaled, (train_pixels, validation_pixels, test_pixels)
    )
    histories = {}

    for name, run in experiments["experiments"].items():
        keras.utils.set_random_seed(params["seed"])
        model = build()
        fitted = model.fit(
            train_images,
            train_labels,
            batch_size=run["train.batch_size"],
            epochs=run["train.epochs"],
            validation_data=(validation_images, validation_labels),
            verbose=2,
        )
        (folder / name).mkdir(parents=True, exist_ok=True)
        model.save(folder / name / "model.keras")
        history = pd.DataFrame(fitted.history)
        history.insert(0, "epoch", range(1, len(history) + 1))
        history.to_csv(folder / name / "history.csv", index=False)
        histories[name] = history

        table = predictions(test_labels, model.predict(test_images, verbose=0), class_names)
        tally = Tally(class_names)
        tally.add(table)
        metrics = classification_metrics(tally)
        print(name, metrics)
        (folder / name / "test.json").write_text(json.dumps(metrics))
        per_class(tally).to_csv(folder / name / "per_class.csv", index=False)
        table.to_csv(folder / name / "predictions.csv", index=False)

        wrong = (
            table[table["actual"] != table["predicted"]]
            .sort_values("confidence", ascending=False)
            .head(24)
        )
        pictures = {
            "loss": figures.learning_curves(history, "loss", "cross-entropy (nats)", name),
            "accuracy": figures.learning_curves(history, "accuracy", "accuracy", name),
            "confusion_matrix": figures.confusion_matrix(table, class_names, name),
            "samples": figures.samples(train_pixels, train_labels, class_names, name),
            "predictions": figures.predictions(test_pixels, table.head(24), name),
            "mistakes": figures.predictions(test_pixels[wrong.index], wrong, name),
        }
        for picture, figure in pictures.items():
            figure.savefig(folder / name / f"{picture}.png", dpi=150)

    figures.compare_losses(histories, "loss").savefig(folder / "experiments.png", dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
