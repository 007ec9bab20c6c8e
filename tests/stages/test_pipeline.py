"""What all stages share."""

import pytest

from fashion.core.errors import UserError
from stages import StagePaths

DVC_YAML = """
stages:
  train:
    deps: [data/prepared, stages/train.py, {other}]
    outs: [models/model.keras: {{cache: false}}]
"""


def write_dvc_yaml(folder, monkeypatch, other: str) -> None:
    (folder / "dvc.yaml").write_text(DVC_YAML.format(other=other))
    monkeypatch.chdir(folder)


def test_a_stage_finds_its_files_by_name_where_dvc_yaml_puts_them(tmp_path, monkeypatch):
    write_dvc_yaml(tmp_path, monkeypatch, other="models/model.keras")  # as when it is updated
    files = StagePaths("train")
    found = [files[name].as_posix() for name in ("prepared", "train.py", "model.keras")]
    assert found == ["data/prepared", "stages/train.py", "models/model.keras"]
    with pytest.raises(KeyError, match=r"declares no history\.csv for stage train"):
        files["history.csv"]


def test_two_paths_with_one_file_name_are_refused(tmp_path, monkeypatch):
    write_dvc_yaml(tmp_path, monkeypatch, other="tools/train.py")
    with pytest.raises(UserError, match=r"declares stages/train\.py and tools/train\.py\. Give"):
        StagePaths("train")


def test_a_wrong_param_is_one_message_and_status_1(repository):
    repository.set("train.epochs=many")
    assert repository.python("stages.train", status=1) == (
        "train: params.yaml: train.epochs is 'many'. Input should be a valid integer\n"
        "`git checkout params.yaml` brings the committed params back\n"
    )


PREPARED, LABELS = "data/prepared", "data/raw/t10k-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("path", "damage", "stage", "message"),
    [
        ("models/model.keras", "truncated", "evaluate", "models/model.keras: not a whole Keras"),
        (f"{PREPARED}/train_images.npy", "truncated", "train", f"{PREPARED}: missing or corrupted"),
        (f"{PREPARED}/test_images.npy", "garbled", "plot", f"{PREPARED}: missing or corrupted"),
        (f"{PREPARED}/dataset.json", "deleted", "plot", f"{PREPARED}: missing or corrupted"),
        (LABELS, "truncated", "prepare", f"{LABELS}: not a whole gzip file"),
        (LABELS, "deleted", "prepare", f"{LABELS}: no such file"),
    ],
)
def test_a_missing_or_corrupted_input_is_one_message(repository, path, damage, stage, message):
    file = repository.folder / path
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "garbled":
        file.write_bytes(b"garbled" + content[7:])
    output = repository.python(f"stages.{stage}", status=1)
    assert output.startswith(f"{stage}: {message}")
    assert output.endswith(". `dvc repro` makes it again\n") and output.count("\n") == 1
