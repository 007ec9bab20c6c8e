"""Write the model card and the data card from the model and the tracked files: `make readme`."""

import json
import zipfile
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from fashion.core.environment import pinned_versions
from fashion.core.errors import UserError
from fashion.core.files import read_csv
from fashion.core.strict_yaml import read_yaml
from tools.dvc import model_artifacts, output_hashes, read_lock, status
from tools.gate.noise import noise_at
from tools.git import commit_workspace
from tools.tables import markdown

CARD, DATA_CARD = Path("models/README.md"), Path("data/README.md")
HIGH_CONFIDENCE = 0.99  # from which the card counts a prediction that contradicts the label
TOP_CONFUSIONS = 5
SIZES = ("units", "filters", "rate")  # keys of a Keras layer that say how large it is


def render_cards() -> dict[Path, str]:
    """Return the text of the model card and of the data card, by path.

    Raises UserError if a result is missing or stale, as the cards would then be wrong.
    """
    if stale := status():
        raise UserError(
            f"the cards describe the results, but those of {', '.join(stale)} are missing or stale."
            " `dvc checkout` restores missing files, `dvc repro` rebuilds stale ones"
        )
    layers = describe_layers(Path(model_artifacts(read_yaml(Path("dvc.yaml")))[0]))
    return {CARD: render_model_card(layers), DATA_CARD: render_data_card()}


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


def render_model_card(layers: str) -> str:
    """Return the text of the card of a model with these layers."""
    facts = read_facts()
    predictions = read_csv("plots/predictions.csv")
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    confusions = wrong.value_counts(["actual", "predicted"])[:TOP_CONFUSIONS]
    noise = None
    try:
        noise = noise_at(commit_workspace())
    except UserError as error:  # none was measured, or with other code, params or data
        print(f"Note: {CARD} is without noise: {error}.")
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
        confusions=confusions.reset_index(name="images"),
    )


def render_data_card() -> str:
    """Return the text of the data card."""
    facts = read_facts()
    return _template("data_card.md.j2").render(
        facts,
        files=pd.DataFrame(facts["dataset"]["files"].values()),
        counts=pd.DataFrame(facts["data"]["images_per_class"]).rename_axis("class").reset_index(),
    )


def read_facts() -> dict[str, Any]:
    """Return the content of the configuration and metrics files by their names without suffix."""
    files = [f"{name}.yaml" for name in ("params", "dataset", "dvc")]
    files += [f"metrics/{name}.json" for name in ("data", "train", "test")]
    return {path.stem: read_yaml(path) for path in map(Path, files)}  # YAML 1.2 includes JSON


def _template(name: str) -> Template:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters["table"] = lambda table: text_table(as_texts(table))
    return templates.get_template(name)


def as_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with four decimals of each fraction and without underscores in titles."""
    texts = table.map(lambda value: f"{value:.4f}" if isinstance(value, float) else str(value))
    return texts.rename(columns=lambda title: title.replace("_", " "))


def text_table(table: pd.DataFrame) -> str:
    """Return a table of texts as Markdown, with columns of numbers aligned to the right."""
    is_number = [table[title].astype(str).str.match(r"[+-]?\d").all() for title in table]
    align = ["right" if number else "left" for number in is_number]
    escaped = table.map(lambda text: str(text).replace("|", "\\|"))
    return markdown(escaped, disable_numparse=True, colalign=align)


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
