"""Write the model card and the data card from the model and the tracked files: `make readme`."""

import json
import zipfile
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from pandas.api.types import is_numeric_dtype

from fashion.core.environment import pinned_versions
from fashion.core.errors import UserError
from fashion.core.files import md5, read_csv
from fashion.core.strict_yaml import read_yaml
from tools.dvc import model_artifacts, output_hashes, pipeline_hashes, read_lock
from tools.gate.noise import NOISE, parse_noise
from tools.git import commit_workspace

CARD, DATA_CARD = Path("models/README.md"), Path("data/README.md")
HIGH_CONFIDENCE = 0.99  # from which a contradiction of the label is counted
TOP_CONFUSIONS = 5
SIZES = ("units", "filters", "rate")  # keys of a Keras layer that say how large it is


def card() -> str:
    """Return the text of the model card.

    Raises UserError if a file is missing, or the model is not the one that dvc.lock names.
    """
    try:
        path = Path(model_artifacts(read_yaml(Path("dvc.yaml")))[0])
        if md5(path) != output_hashes(read_lock()).get(str(path)):
            raise UserError(f"{path} is not the model in dvc.lock. `dvc checkout` restores that")
        return render_card(describe_layers(path))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: not here yet. `make` makes it") from None


def describe_layers(model: Path) -> str:
    """Return the layers of a Keras file in words, or "" if it is in another format.

    The file is a zip archive with the layers in its config.json, so Keras is not imported. Source:
    https://keras.io/guides/serialization_and_saving.
    """
    if not zipfile.is_zipfile(model):
        return ""
    with zipfile.ZipFile(model) as archive:
        layers = json.loads(archive.read("config.json"))["config"].get("layers", [])
    texts = []
    for (name, activation), group in groupby(layers, _kind):
        sizes = [layer["config"][key] for layer in group for key in SIZES if key in layer["config"]]
        if name not in ("InputLayer", "Rescaling"):  # the card has a row for the input
            texts.append(" ".join(filter(None, [name, " → ".join(map(str, sizes)), activation])))
    return ", ".join(texts)


def _kind(layer: dict[str, Any]) -> tuple[str, str]:
    activation = layer["config"].get("activation", "linear").replace("relu", "ReLU")
    return layer["class_name"], "" if activation == "linear" else f"with {activation}"


def render_card(layers: str) -> str:
    """Return the text of the card of a model with these layers."""
    facts = read_facts()
    predictions = read_csv("plots/predictions.csv")
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    noise = find_noise()
    return _template("model_card.md.j2").render(
        facts,
        layers=layers,
        versions=pinned_versions(),
        md5=output_hashes(read_lock()),
        wrong=len(wrong),
        sure=(wrong["confidence"] >= HIGH_CONFIDENCE).sum(),
        high_confidence=HIGH_CONFIDENCE,
        results=compare_with_noise(facts["test"], noise),
        noise=noise,
        per_class=read_csv("metrics/per_class.csv"),
        confusions=wrong.value_counts(["actual", "predicted"])[:TOP_CONFUSIONS].reset_index(
            name="images"
        ),
    )


def data_card() -> str:
    """Return the text of the data card. Raises UserError if a file is missing."""
    facts = read_facts()
    counts = pd.DataFrame(facts["data"]["images_per_class"]).rename_axis("class").reset_index()
    return _template("data_card.md.j2").render(facts, counts=counts)


def read_facts() -> dict[str, Any]:
    """Return the configuration and the metrics, by the files' names, and a table of raw files."""
    try:
        facts = {name: read_yaml(Path(f"{name}.yaml")) for name in ("params", "dataset", "dvc")}
        for name in ("data", "train", "test"):
            facts[name] = json.loads(Path(f"metrics/{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: not here yet. `make` makes it") from None
    files = pd.DataFrame(facts["dataset"]["files"].values())[["name", "bytes", "sha256"]]
    return facts | {"files": files}


def _template(name: str) -> Template:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters["table"] = markdown
    return templates.get_template(name)


def markdown(table: pd.DataFrame, **style: str) -> str:
    """Return a table as Markdown; text stays as it is, though it looks like a number."""
    texts = [i for i, kind in enumerate(table.dtypes) if not is_numeric_dtype(kind)]
    escaped = table.map(lambda x: x.replace("|", "\\|") if isinstance(x, str) else x)
    return escaped.to_markdown(index=False, disable_numparse=texts, **style)


def find_noise() -> pd.DataFrame | None:
    """Return the metrics of runs that differ in their seed alone, with the seed as index.

    None if they were not measured, or with other code, params or data.
    """
    if not NOISE.exists():
        return None
    noise = parse_noise(NOISE.read_bytes(), str(NOISE))
    return noise.table if noise.belongs_to == pipeline_hashes(commit_workspace()) else None


def compare_with_noise(test: dict[str, Any], noise: pd.DataFrame | None) -> pd.DataFrame:
    """Return each metric of the test, with its interval and its noise where these are known."""
    rows = []
    for name, value in test.items():
        if not isinstance(value, float):
            continue
        row = {"": name.replace("_", " "), "this model": f"{value:.4f}"}
        if f"{name}_interval" in test:
            row["this model"] += " ({:.4f} to {:.4f})".format(*test[f"{name}_interval"])
        if noise is not None:
            spread = f"{noise[name].mean():.4f} ± {noise[name].std():.4f}"
            row["mean ± standard deviation"] = spread
        rows.append(row)
    return pd.DataFrame(rows)
