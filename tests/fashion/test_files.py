import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fashion.core.files import atomic_write, sha256, with_filename, write_csv, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        # beside it, so that the move is one step; with its suffix kept
        assert part == tmp_path / "model.part.keras"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["model.keras"]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with atomic_write(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_in_the_block_leaves_no_file_where_none_was(tmp_path):
    with pytest.raises(ValueError, match="stop"), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise ValueError("stop")
    assert names(tmp_path) == []


def test_what_a_killed_run_leaves_is_overwritten_by_the_next(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    dies_while_writing = """
import os, pathlib, sys
from fashion.core.files import atomic_write
with atomic_write(pathlib.Path(sys.argv[1])) as part:
    part.write_text("a long first half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", dies_while_writing, path]).returncode == 9
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.part.txt", "a.txt"]
    with atomic_write(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_json_is_indented_in_the_order_given_with_six_decimals(tmp_path):
    path = tmp_path / "a.json"
    values = {
        "z": 1 / 3,
        "a": 2,
        "name": "T-shirt – é",
        "list": [2 / 3, 1],
        "in": {"x": np.float64(0.12345678)},
        "flag": True,
    }
    write_json(path, values)
    assert path.read_bytes().decode() == (
        '{\n  "z": 0.333333,\n  "a": 2,\n  "name": "T-shirt – é",\n'
        '  "list": [\n    0.666667,\n    1\n  ],\n'
        '  "in": {\n    "x": 0.123457\n  },\n  "flag": true\n}\n'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "nest", [lambda value: value, lambda value: [1, {"deep": value}]], ids=["bare", "nested"]
)
def test_json_refuses_what_is_not_json_and_keeps_the_old_file(tmp_path, value, nest):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"new": nest(value)})
    assert json.loads(path.read_text()) == {"old": 1}
    assert names(tmp_path) == ["a.json"]


def test_csv_has_no_index_line_feeds_and_six_decimals(tmp_path):
    path = tmp_path / "a.csv"
    write_csv(
        path,
        pd.DataFrame(
            {"class": ["Ankle boot", "a, b"], "share": [1 / 3, 1.0], "support": [6, 1000]},
            index=[7, 8],
        ),
    )
    assert (
        path.read_bytes() == b'class,share,support\nAnkle boot,0.333333,6\n"a, b",1.000000,1000\n'
    )


@pytest.mark.parametrize(
    ("content", "digest"),
    # published in FIPS 180-2, appendix B, but for the empty message, which is in NIST's example
    # files
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
    ids=["empty", "abc", "a million a"],
)
def test_sha256_of_published_examples(tmp_path, content, digest):
    path = tmp_path / "a"
    path.write_bytes(content)
    assert sha256(path) == digest


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_told_with_the_name_of_the_file():
    with (
        pytest.raises(OSError, match="No space left on device") as error,
        with_filename(Path("metrics/test.json")),
    ):
        Path("/dev/full").write_text("x")
    assert error.value.filename == "metrics/test.json"


def test_a_full_disk_is_told_also_where_numpy_does_not(tmp_path, monkeypatch):
    class Full:
        free = 0

    with pytest.raises(OSError, match="1024 requested"), with_filename(tmp_path / "x.npy"):
        raise OSError("1024 requested and 512 written")
    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    with (
        pytest.raises(OSError, match="No space left") as error,
        with_filename(tmp_path / "x.npy"),
    ):
        raise OSError("1024 requested and 512 written")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "x.npy"))


def test_what_is_linked_to_the_file_of_before_keeps_its_content(tmp_path):
    """As DVC's cache is, and as a reader that has it open: it is replaced, not written over."""
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    path.write_text("old")
    link.hardlink_to(path)
    with path.open() as reader:
        with atomic_write(path) as part:
            part.write_text("new")
        assert (path.read_text(), link.read_text(), reader.read()) == ("new", "old", "old")
