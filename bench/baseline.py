"""Run the experiments one after the other with `model.fit`: `python -m bench.baseline FOLDER`.

This is what people would write instead of the pipeline, and the rival of bench/speed.py. From the
four raw files on, it does what `make` does: the same validation images, model, epochs and batch
sizes, validation after every epoch, test metrics, and the same kinds of plots, written into FOLDER.
It is written to be fast: pixels are scaled once, and Keras holds the arrays in memory.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from fashion.comparisons import compare_losses
from fashion.data.idx import read_idx
from fashion.data.splits import stratified_split
from fashion.metrics import classification_metrics, per_class, predictions
from fashion.plots import figures

RAW = Path("data/raw")
DIMENSIONS = {"images": (None, 28, 28), "labels": (None,)}
Split = tuple[np.ndarray, ...]  # pixels from 0 to 255 and labels, both uint8


def load(files: dict, params: dict) -> dict[str, Split]:
    """Return the splits train, validation and test, as dataset.yaml and params.yaml define them."""
    raw = {
        split: tuple(
            read_idx(RAW / files[f"{split}_{part}"]["name"], DIMENSIONS[part])
            for part in DIMENSIONS
        )
        for split in ("train", "test")
    }
    images, labels = raw["train"]
    held_out = stratified_split(labels, params["validation_size"], params["split_seed"])
    return {
        "train": (images[~held_out], labels[~held_out]),
        "validation": (images[held_out], labels[held_out]),
        "test": raw["test"],
    }


def build() -> keras.Sequential:
    """Return the network that params.yaml has as committed, compiled."""
    hidden = [keras.layers.Dense(units, activation="relu") for units in (784, 392, 196, 49)]
    output = keras.layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), *hidden, output])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(run: dict, splits: dict[str, Split]) -> tuple[keras.Model, pd.DataFrame]:
    """Return a trained model and its history, a row for each epoch. Images are from 0 to 1."""
    model, size, epochs = build(), run["train.batch_size"], run["train.epochs"]
    settings = {"batch_size": size, "epochs": epochs, "validation_data": splits["validation"]}
    history = pd.DataFrame(model.fit(*splits["train"], verbose=2, **settings).history)
    history.insert(0, "epoch", range(1, epochs + 1))
    return model, history


def score(
    labels: np.ndarray, probabilities: np.ndarray, class_names: list[str], folder: Path
) -> pd.DataFrame:
    """Write the metrics and the predictions of the test images, and return the predictions."""
    table = predictions(labels, probabilities, class_names)
    (folder / "test.json").write_text(json.dumps(classification_metrics(table)))
    per_class(table).to_csv(folder / "per_class.csv", index=False)
    table.to_csv(folder / "predictions.csv", index=False)
    return table


def draw(
    history: pd.DataFrame, table: pd.DataFrame, class_names: list[str], splits: dict[str, Split]
) -> dict:
    """Return the plots of a run by name."""
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
    """Train, score and plot each experiment of experiments.yaml, and compare their losses."""
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
        for plot, figure in draw(histories[name], table, class_names, splits).items():
            figure.savefig(out / name / f"{plot}.png", dpi=150)
    compare_losses(histories, "loss").savefig(out / "experiments.png", dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
