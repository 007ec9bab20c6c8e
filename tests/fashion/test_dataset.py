from pathlib import Path

import pytest

from fashion.core.dataset import Dataset, read_dataset, read_description, write_description
from fashion.core.errors import FileError, UserError
from fashion.core.strict_yaml import check_config, read_yaml

COMMITTED = Path(__file__).parents[2] / "dataset.yaml"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("class_names", ["one"], "class_names"),
        ("class_names", ["cat", "cat", "dog"], "class_names: cat is listed twice"),
        ("class_names", ["one", "x\udce9"], "is not one line of text"),  # not UTF-8
        ("files.test_labels.name", "../labels.gz", "files.test_labels.name is '../labels.gz'"),
        ("files.test_labels.sha256", "67DA", "files.test_labels.sha256 is '67DA'"),
        ("licence", "MIT", "licence is not a known key. Check its spelling; fashion/core/dataset."),
    ],
)
def test_a_wrong_key_is_named_with_what_was_expected(name, value, message):
    values = read_yaml(COMMITTED)
    *sections, key = name.split(".")
    section = values
    for part in sections:
        section = section[part]
    section[key] = value
    with pytest.raises(UserError) as error:
        check_config(values, "data.yaml", Dataset)
    assert str(error.value).startswith("data.yaml: ") and message in str(error.value)


def test_the_facts_that_later_stages_need_are_written_with_the_prepared_data(tmp_path):
    dataset = read_dataset(COMMITTED)
    write_description(tmp_path / "dataset.json", dataset)
    description = read_description(tmp_path / "dataset.json")
    assert description.model_dump() == dataset.model_dump(exclude={"sources", "files"})
    assert description.class_names and description.fit == "pad"


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"[]"])
def test_a_missing_or_corrupted_description_is_reported(tmp_path, content):
    path = tmp_path / "prepared/dataset.json"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match="prepared: missing or corrupted"):
        read_description(path)
