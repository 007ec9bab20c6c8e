"""Write the model card, models/README.md, from the tracked params and metrics.

`make readme` writes it.
"""

import json
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from tools.dvc_lock import DVC_LOCK, md5_of, read_lock

CARD, TEMPLATE = Path("models/README.md"), "model_card.md.j2"
HIGH_CONFIDENCE = 0.99  # confidence from which a contradiction of the label is counted
TOP_CONFUSIONS = 5  # confusions shown


def card(project: Path = Path()) -> str:
    """The card's text, for the model that the project's dvc.lock names.

    Raises UserError where a number in it was not measured yet, or on other data.
    """
    params, dataset, pipeline = (
        read_yaml(project / name) for name in ("params.yaml", "dataset.yaml", "dvc.yaml")
    )
    data, train, test, noise, environment = (
        read_metrics(project / f"metrics/{name}.json")
        for name in ("data", "train", "test", "noise", "environment")
    )
    accuracies = dict(zip(noise["seeds"], noise["metrics"]["accuracy"], strict=True))
    if accuracies.get(params["seed"]) != test["accuracy"]:
        raise UserError(
            "metrics/noise.json was measured with other data, params or code. Commit the results,"
            " then `make noise` measures it"
        )
    (artifact, model), classes = (
        next(iter(pipeline["artifacts"].items())),
        dataset["class_names"],
    )
    height, width = dataset["image_shape"]
    predictions = pd.read_csv(project / "plots/predictions.csv", keep_default_na=False)
    per_class = pd.read_csv(project / "metrics/per_class.csv", keep_default_na=False)
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return templates.get_template(TEMPLATE).render(
        artifact=artifact,
        is_fashion_mnist=data["name"] == "Fashion-MNIST",
        path=model["path"],
        shape=f"{height}x{width}",
        shape_text=f"{height}, {width}",
        classes=classes,
        layers=architecture(params["model"], len(classes)),
        parameters=train["parameters"],
        train=params["train"],
        extra_settings=extra_settings(params["train"]),
        seed=params["seed"],
        environment=environment,
        data=data,
        files=markdown(pd.DataFrame(dataset["files"].values())[["name", "bytes", "sha256"]]),
        wrong=len(wrong),
        sure=int((wrong["confidence"] >= HIGH_CONFIDENCE).sum()),
        results=markdown(results(test, pd.DataFrame(noise["metrics"]))),
        seeds=noise["seeds"],
        per_class=markdown(per_class, floatfmt=".3f"),
        confusions=markdown(confusions(wrong)),
        weakest=per_class.loc[per_class["f1"].idxmin()],
        md5=md5_of(read_lock(project / DVC_LOCK), model["path"]),
    )


def read_metrics(path: Path) -> dict:
    """The content of a file in metrics/. Raises UserError where it is not there yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        command = "make noise" if path.stem == "noise" else "make"
        raise UserError(f"{path}: not measured yet. `{command}` measures it") from None


def architecture(model: dict, classes: int) -> str:
    """The layers in words."""
    dropout = f", dropout {model['dropout']}" if model["dropout"] else ""
    end = f"{dropout}, Dense {classes} with softmax"
    if model["name"] == "cnn":
        channels = " → ".join(map(str, model["filters"]))
        return (
            f"Blocks of two 3x3 convolutions with {channels} channels,"
            f" batch normalization, ReLU, max pooling{end}"
        )
    normalization = "batch normalization and " if model["batch_normalization"] else ""
    units = " → ".join(map(str, model["hidden_units"]))
    return f"Flatten, Dense {units} with {normalization}ReLU{end}"


def extra_settings(train: dict) -> str:
    """Return what is set beyond the plain training.

    For example ", learning rate schedule cosine, weight decay 0.05".
    """
    plain = {"epochs", "batch_size", "learning_rate"}
    chosen = {
        name: value
        for name, value in train.items()
        if name not in plain and value not in (0, "none", "constant")
    }
    return "".join(f", {name.replace('_', ' ')} {value}" for name, value in chosen.items())


def results(test: dict, noise: pd.DataFrame) -> pd.DataFrame:
    low, high = test["accuracy_interval"]
    rows = []
    for name in ("accuracy", "macro_f1", "loss", "expected_calibration_error"):
        this = f"{test[name]:.4f}" + (f" ({low:.4f} to {high:.4f})" if name == "accuracy" else "")
        rows.append(
            {
                "": name.replace("_", " "),
                "this model": this,
                "mean ± standard deviation": f"{noise[name].mean():.4f} ± {noise[name].std():.4f}",
            }
        )
    return pd.DataFrame(rows)


def confusions(wrong: pd.DataFrame) -> pd.DataFrame:
    counts = (
        wrong.groupby(["actual", "predicted"])
        .size()
        .sort_values(ascending=False, kind="stable")
        .head(TOP_CONFUSIONS)
    )
    return counts.rename("images").reset_index()


def markdown(table: pd.DataFrame, **options) -> str:
    return table.to_markdown(index=False, **options)
