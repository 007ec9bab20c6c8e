"""Do what people would write instead: one script, `model.fit` for one run after the other.

`python -m bench.baseline FOLDER` does what `make` does from the four raw files on: it keeps back
the same validation images, and has the same model, epochs and batch sizes, validation after every
epoch, the test metrics and the same kinds of pictures, into FOLDER. It is the rival of
bench/speed.py, written to be quick: pixels are scaled once, and Keras holds the arrays in memory.
"""

import gzip
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from fashion.comparisons import compare_losses
from fashion.data.splits import stratified_split
from fashion.metrics import classification_metrics, per_class, predictions
from fashion.plots import figures

RAW = Path("data/raw")
HEADER = {"images": 16, "labels": 8}  # bytes before the values in an IDX file
Split = tuple[np.ndarray, np.ndarray]  # pixels from 0 to 255 and labels, both uint8


def load(files: dict, params: dict) -> dict[str, Split]:
    """Return the splits train, validation and test, as dataset.yaml and params.yaml say."""
    raw = {}
    for split in ("train", "test"):
        for part, header in HEADER.items():
            with gzip.open(RAW / files[f"{split}_{part}"]["name"]) as file:
                raw[split, part] = np.frombuffer(file.read(), np.uint8, offset=header)
        raw[split, "images"] = raw[split, "images"].reshape(-1, 28, 28)
    images, labels = raw["train", "images"], raw["train", "labels"]
    held_out = stratified_split(labels, params["validation_size"], params["split_seed"])
    return {
        "train": (images[~held_out], labels[~held_out]),
        "validation": (images[held_out], labels[held_out]),
        "test": (raw["test", "images"], raw["test", "labels"]),
    }


def build() -> keras.Sequential:
    """Return the network of params.yaml, compiled."""
    hidden = [keras.layers.Dense(units, activation="relu") for units in (784, 392, 196, 49)]
    output = keras.layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), *hidden, output])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(run: dict, splits: dict[str, Split]) -> tuple[keras.Model, pd.DataFrame]:
    """Return a trained model and its history, a row an epoch. Images are from 0 to 1."""
    model, size, epochs = build(), run["train.batch_size"], run["train.epochs"]
    settings = {"batch_size": size, "epochs": epochs, "validation_data": splits["validation"]}
    history = pd.DataFrame(model.fit(*splits["train"], verbose=2, **settings).history)
    history.insert(0, "epoch", range(1, epochs + 1))
    return model, history


def score(
    labels: np.ndarray, probabilities: np.ndarray, class_names: list[str], folder: Path
) -> pd.DataFrame:
    """Write metrics and predictions of the test images into a folder, and return the latter."""
    table = predictions(labels, probabilities, class_names)
    (folder / "test.json").write_text(json.dumps(classification_metrics(table)))
    per_class(table).to_csv(folder / "per_class.csv", index=False)
    table.to_csv(folder / "predictions.csv", index=False)
    return table


def draw(
    history: pd.DataFrame, table: pd.DataFrame, class_names: list[str], splits: dict[str, Split]
) -> dict:
    """Return the pictures of a run by name."""
    images, _ = splits["test"]
    wrong = table[table["actual"] != table["predicted"]]
    wrong = wrong.sort_values("confidence", ascending=False).head(24)
    curves = ("loss", "accuracy")
    return {name: figures.learning_curves(history, name, name, name) for name in curves} | {
        "confusion_matrix": figures.confusion_matrix(table, class_names, "confusion"),
        "samples": figures.samples(*splits["train"], class_names, "samples"),
        "predictions": figures.predictions(images, table.head(24), "predictions"),
        "mistakes": figures.predictions(images[wrong.index], wrong, "mistakes"),
    }


def main(out: Path) -> None:
    """Train, score and draw each experiment of experiments.yaml, and compare them."""
    names = ("params", "dataset", "experiments")
    params, dataset, runs = (YAML(typ="safe").load(Path(f"{name}.yaml")) for name in names)
    splits, class_names = load(dataset["files"], params["prepare"]), dataset["class_names"]
    scaled = {split: (x.astype("float32") / 255, y) for split, (x, y) in splits.items()}
    test_images, test_labels = scaled["test"]
    histories = {}
    for name, run in runs["experiments"].items():
        keras.utils.set_random_seed(params["seed"])
        (out / name).mkdir(parents=True, exist_ok=True)
        model, histories[name] = train(run, scaled)
        model.save(out / name / "model.keras")
        histories[name].to_csv(out / name / "history.csv", index=False)
        table = score(test_labels, model.predict(test_images, verbose=0), class_names, out / name)
        for picture, figure in draw(histories[name], table, class_names, splits).items():
            figure.savefig(out / name / f"{picture}.png", dpi=150)
    compare_losses(histories, "loss").savefig(out / "experiments.png", dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
