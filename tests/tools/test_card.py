import json
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from tools.report.card import CARD, architecture, card, confusions, extra_settings

PROJECT = Path(__file__).parents[2]


def test_the_committed_card_belongs_to_the_committed_numbers():
    assert (PROJECT / CARD).read_text(encoding="utf-8") == card(PROJECT), (
        "`make readme` writes it anew"
    )


def test_it_says_what_the_model_is_and_how_good():
    text = card(PROJECT)
    test = json.loads((PROJECT / "metrics/test.json").read_text())
    lock = YAML(typ="safe").load((PROJECT / "dvc.lock").read_text())
    assert "1,010,341 parameters" in text  # as `model.summary()` says
    assert f"{test['accuracy']:.4f} (" in text
    for out in lock["stages"]["train"]["outs"]:
        if out["path"] == "models/model.keras":
            assert out["md5"] in text
    for file in YAML(typ="safe").load((PROJECT / "dataset.yaml").read_text())["files"].values():
        assert file["sha256"] in text


def test_it_describes_the_other_models_and_trainings_too():
    plain = {
        "hidden_units": [784, 392, 196, 49],
        "filters": [16, 32, 64],
        "dropout": 0.0,
        "batch_normalization": False,
    }
    text = architecture(plain | {"name": "cnn"}, 10)
    assert "16 → 32 → 64 channels" in text and "dropout" not in text
    text = architecture(plain | {"name": "mlp", "dropout": 0.3, "batch_normalization": True}, 10)
    assert "batch normalization and ReLU, dropout 0.3" in text
    settings = {
        "epochs": 9,
        "learning_rate_schedule": "cosine",
        "weight_decay": 0.0,
        "augmentation": "none",
    }
    text = extra_settings(settings | {"weight_decay": 0.1})
    assert text == ", learning rate schedule cosine, weight decay 0.1"


def test_the_commonest_confusions_come_first():
    wrong = pd.DataFrame(
        {"actual": ["a", "b", "b", "a", "b"], "predicted": ["b", "a", "a", "c", "a"]}
    )
    assert confusions(wrong).to_dict("records")[0] == {"actual": "b", "predicted": "a", "images": 3}


def test_it_changes_with_the_numbers(toy):
    toy.set("model.hidden_units=[32, 16]")
    scores = json.loads(toy.read("metrics/test.json"))
    for accuracy in (scores["accuracy"], 0.1234):
        numbers = scores | {"accuracy": accuracy}
        (toy.folder / "metrics/test.json").write_text(json.dumps(numbers))
        noise = {"seeds": [42], "metrics": {name: [x] for name, x in numbers.items()}}
        (toy.folder / "metrics/noise.json").write_text(json.dumps(noise))
        text = card(toy.folder)
        assert "32 → 16" in text and ("0.1234" in text) == (accuracy == 0.1234)
