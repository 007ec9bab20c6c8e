"""Class names are text, whatever they look like.

These tests follow them through files, tables and plots. The toy pipeline of the tools' tests has
such names as well, so that the report page, the cards and the gate are tried with them.
"""

import re
from collections import Counter

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashion.core.dataset import Description, read_description
from fashion.core.errors import UserError
from fashion.core.files import read_csv, write_csv, write_json
from fashion.core.strict_yaml import check_config, read_yaml
from fashion.metrics import per_class, predictions
from fashion.plots.figures import confusion_matrix
from tools.dataset import write_dataset
from tools.report.card import as_texts, text_table

ODD = ["0", "007", "1e5", "true", "NA", "null", "nan", "", "-", "#1", "1_000", "0x1F", "2026-11-28"]
ODD += ['a "b", c', "it's", "a;b", "$5 to $10", "a|b", "<b>&amp;", "\\n", "%s", "{x}", "🩳", "日本"]
ODD += ["קוד", "شجرة", "e\u0301", "a\nb", "a\rb", "a\tb", " a", "a ", "a\u2028b", "\x00", "=1+1"]
NAMES = st.lists(st.sampled_from(ODD) | st.text(max_size=9), min_size=2, max_size=5, unique=True)


def description(names: list[str]) -> dict:
    return {"name": names[0], "image_shape": [2, 2], "class_names": names, "ground": "any"}


def accepted(names: list[str]) -> bool:
    try:
        return check_config(description(names), "x", Description).class_names == names
    except UserError as error:
        assert "is not one line of text without blanks at its ends" in str(error)
        return False


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=NAMES, seed=st.integers(0, 99))
def test_names_are_refused_or_come_back_from_every_table_as_they_are(tmp_path, names, seed):
    if not accepted(names):
        assert any(name != name.strip() or not name.isprintable() or not name for name in names)
        return
    write_dataset(description(names), tmp_path / "dataset.yaml")
    assert read_yaml(tmp_path / "dataset.yaml") == description(names)
    write_json(tmp_path / "dataset.json", description(names))
    assert read_description(tmp_path / "dataset.json").class_names == names
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(len(names), size=20), rng.dirichlet([1] * len(names), 20)
    table = predictions(labels, probabilities, names)
    write_csv(tmp_path / "predictions.csv", table)
    write_csv(tmp_path / "per_class.csv", per_class(table))
    read = read_csv(tmp_path / "predictions.csv")
    assert read["actual"].tolist() == [names[label] for label in labels]
    assert read["predicted"].tolist() == [names[label] for label in probabilities.argmax(axis=1)]
    assert read_csv(tmp_path / "per_class.csv")["class"].tolist() == names
    [axes] = confusion_matrix(read, names, "").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    counts = [int(text.get_text()) for text in axes.texts]
    pairs = zip(table["actual"], table["predicted"], strict=True)
    assert sorted(counts) == sorted(Counter(pairs).values())
    rows = text_table(as_texts(read_csv(tmp_path / "per_class.csv"))).splitlines()[2:]
    cells = [re.split(r"(?<!\\)\|", row)[1].strip().replace("\\|", "|") for row in rows]
    assert cells == names
