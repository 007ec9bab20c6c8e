"""Test what all stages share."""

from pathlib import Path

import pytest

from fashion.core.errors import UserError
from stages import StagePaths
from tests.stages.running import run_stage

DVC_YAML = """
stages:
  train:
    deps: [data/prepared, stages/train.py, {other}]
    outs: [models/model.keras: {{cache: false}}]
"""


def test_a_stage_finds_its_files_by_name_where_dvc_yaml_puts_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(DVC_YAML.format(other="models/model.keras"))  # as a stage updates
    files = StagePaths("train")
    found = [files[name].as_posix() for name in ("prepared", "train.py", "model.keras")]
    assert found == ["data/prepared", "stages/train.py", "models/model.keras"]
    with pytest.raises(UserError, match=r"declares no history\.csv for stage train"):
        files["history.csv"]
    with pytest.raises(UserError, match=r"^dvc.yaml has no stage plot"):
        StagePaths("plot")
    Path("dvc.yaml").write_text(DVC_YAML.format(other="tools/train.py"))
    with pytest.raises(UserError, match=r"declares stages/train\.py and tools/train\.py\. Give"):
        StagePaths("train")


def test_a_wrong_param_is_one_message_and_status_1(repository):
    repository.set("train.epochs=many")
    assert repository.python("stages.train", status=1) == (
        "train: params.yaml: train.epochs is 'many'. Input should be a valid integer\n"
        "`git checkout params.yaml` brings the committed params back\n"
    )


def test_params_are_valid_in_the_same_words_whatever_they_are(repository):
    """Otherwise each change of a param would make all stages stale."""
    before = repository.read("data/params.valid")
    repository.set("seed=7")
    assert run_stage(repository.folder, "validate") == ""
    assert repository.read("data/params.valid") == before


PREPARED, LABELS = "data/prepared", "data/raw/t10k-labels-idx1-ubyte.gz"


def test_a_missing_or_corrupted_input_is_one_message(repository):
    for path, damage, stage, message in [
        ("models/model.keras", "truncated", "evaluate", "models/model.keras: not a whole Keras"),
        (f"{PREPARED}/train_images.npy", "truncated", "train", f"{PREPARED}: missing or corrupted"),
        (f"{PREPARED}/train_labels.npy", "emptied", "train", f"{PREPARED}: missing or corrupted"),
        (f"{PREPARED}/test_images.npy", "garbled", "plot", f"{PREPARED}: missing or corrupted"),
        (f"{PREPARED}/dataset.json", "missing", "plot", f"{PREPARED}: missing or corrupted"),
        (LABELS, "truncated", "prepare", f"{LABELS}: not a whole gzip file"),
        (LABELS, "missing", "prepare", f"{LABELS}: no such file"),
        ("plots/history.csv", "missing", "plot", "plots/history.csv: missing or corrupted"),
    ]:
        file = repository.folder / path
        content = file.read_bytes()
        file.unlink()
        if damage != "missing":
            contents = {"garbled": b"garbled" + content[7:], "emptied": b""}
            file.write_bytes(contents.get(damage, content[: len(content) // 2]))
        output = run_stage(repository.folder, stage)
        assert output.startswith(f"{stage}: {message}")
        assert output.endswith(". `dvc repro` rebuilds it\n") and output.count("\n") == 1
        file.unlink(missing_ok=True)
        file.write_bytes(content)
