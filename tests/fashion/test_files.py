import errno
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fashion.core.errors import UserError
from fashion.core.files import atomic_write, read_csv, write_csv, write_json


def contents(folder: Path) -> dict[str, str]:
    """Return the text of each file in a folder by name."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_is_replaced_when_the_block_ends_and_not_written_over(tmp_path):
    """Its hard links, such as DVC's cache, and its readers keep the old content."""
    path, link = tmp_path / "model.keras", tmp_path / "link.keras"
    path.write_text("old")
    link.hardlink_to(path)
    with path.open() as reader:
        with atomic_write(path) as part:
            part.write_text("new")
            assert path.read_text() == "old"
            # in the same folder, so that the move is one step
            assert part == tmp_path / "model.part.keras"
        assert reader.read() == "old"
    assert contents(tmp_path) == {"model.keras": "new", "link.keras": "old"}


@pytest.mark.parametrize("before", [{}, {"a.txt": "old"}])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_the_folder_as_it_was(tmp_path, error, before):
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise error
    assert contents(tmp_path) == before


def test_the_leftovers_of_a_killed_run_are_overwritten_by_the_next(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    path.parent.mkdir()
    path.with_name("a.part.txt").write_text("a long first half")
    with atomic_write(path) as part:
        part.write_text("new")
    assert contents(path.parent) == {"a.txt": "new"}


def test_json_is_indented_in_the_order_given_with_six_decimals(tmp_path):
    values = {"z": 1 / 3, "a": 2, "name": "T-shirt – é", "list": [2e-7, 1], "flag": True}
    write_json(tmp_path / "a.json", values | {"in": {"x": np.float64(0.12345678)}})
    assert (tmp_path / "a.json").read_bytes().decode() == (
        '{\n  "z": 0.333333,\n  "a": 2,\n  "name": "T-shirt – é",\n'
        '  "list": [\n    0.0,\n    1\n  ],\n  "flag": true,\n'
        '  "in": {\n    "x": 0.123457\n  }\n}\n'
    )


@pytest.mark.parametrize("value", [math.nan, [1, {"deep": -math.inf}]])
def test_numbers_that_json_lacks_are_refused_and_the_old_file_stays(tmp_path, value):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"new": value})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


def test_csv_has_no_index_line_feeds_and_six_decimals_and_its_names_stay_text(tmp_path):
    columns = {"class": ["007", "a, b", "NA"], "share": [1 / 3, 1.0, None], "support": [6, 99, 0]}
    write_csv(tmp_path / "a.csv", pd.DataFrame(columns, index=[7, 8, 9]))
    expected = b'class,share,support\n007,0.333333,6\n"a, b",1.000000,99\nNA,,0\n'
    assert (tmp_path / "a.csv").read_bytes() == expected
    read = read_csv(tmp_path / "a.csv")
    assert read["class"].tolist() == columns["class"]
    assert read["share"][1] == 1 and read["share"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "missing"), (b"", "corrupted"), (b"a,b\n<<<<<<< HEAD\n1,2\n", "conflicts of a merge")],
)
def test_a_table_that_is_missing_or_corrupted_is_reported(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.csv: .*{message}"):
        read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize("numpys", [False, True])
def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path, monkeypatch, numpys):
    """NumPy's own error has no number, and looks like other errors until the disk is full."""

    class Full:
        free = 0

    path, error = tmp_path / "x.npy", OSError(errno.ENOSPC, "No space left on device")
    if numpys:
        error = OSError("1024 requested and 512 written")
        with pytest.raises(OSError, match="1024 requested"), atomic_write(path):
            raise error
        monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    with pytest.raises(OSError, match="No space left") as raised, atomic_write(path):
        raise error
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
