import errno
import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fashion.core.files import atomic_write, sha256, write_csv, write_json


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_file_is_replaced_when_the_block_ends_and_not_written_over(tmp_path):
    """Its hard links, such as DVC's cache, and readers that have it open keep their content."""
    path, link = tmp_path / "model.keras", tmp_path / "link.keras"
    path.write_text("old")
    link.hardlink_to(path)
    with path.open() as reader:
        with atomic_write(path) as part:
            part.write_text("new")
            assert path.read_text() == "old"
            # beside it, so that the move is one step; with its suffix kept
            assert part == tmp_path / "model.part.keras"
        assert reader.read() == "old"
    assert contents(tmp_path) == {"model.keras": "new", "link.keras": "old"}


def test_missing_folders_are_made(tmp_path):
    with atomic_write(tmp_path / "a" / "b" / "c.txt") as part:
        part.write_text("new")
    assert contents(tmp_path / "a" / "b") == {"c.txt": "new"}


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
    assert contents(tmp_path) == {"a.part.txt": "a long first half", "a.txt": "old"}
    with atomic_write(path) as part:
        part.write_text("new")
    assert contents(tmp_path) == {"a.txt": "new"}


def test_json_is_indented_in_the_order_given_with_six_decimals(tmp_path):
    values = {"z": 1 / 3, "a": 2, "name": "T-shirt – é", "list": [2e-7, 1], "flag": True}
    write_json(tmp_path / "a.json", values | {"in": {"x": np.float64(0.12345678)}})
    assert (tmp_path / "a.json").read_bytes().decode() == (
        '{\n  "z": 0.333333,\n  "a": 2,\n  "name": "T-shirt – é",\n'
        '  "list": [\n    0.0,\n    1\n  ],\n  "flag": true,\n'
        '  "in": {\n    "x": 0.123457\n  }\n}\n'
    )


@pytest.mark.parametrize("value", [math.nan, -math.inf, [1, {"deep": math.inf}]])
def test_json_refuses_what_is_not_json_and_keeps_the_old_file(tmp_path, value):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"new": value})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


@pytest.mark.parametrize("cuts", [[], [1], [1, 1, 2]])
def test_csv_of_one_or_more_tables_has_no_index_line_feeds_and_six_decimals(tmp_path, cuts):
    columns = {"class": ["Ankle boot", "a, b"], "share": [1 / 3, 1.0], "support": [6, 1000]}
    table, edges = pd.DataFrame(columns, index=[7, 8]), [0, *cuts, 2]
    parts = [table[start:end] for start, end in pairwise(edges)]
    write_csv(tmp_path / "a.csv", iter(parts) if cuts else table)
    expected = b'class,share,support\nAnkle boot,0.333333,6\n"a, b",1.000000,1000\n'
    assert (tmp_path / "a.csv").read_bytes() == expected


def test_sha256_of_a_published_example(tmp_path):
    """FIPS 180-2, appendix B.3: a million times the letter a."""
    (tmp_path / "a").write_bytes(b"a" * 1_000_000)
    digest = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    assert sha256(tmp_path / "a") == digest


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "test.json"
    with pytest.raises(OSError, match="No space left on device") as error, atomic_write(path):
        Path("/dev/full").write_text("x")
    assert error.value.filename == str(path)


def test_a_full_disk_is_reported_also_where_numpy_does_not(tmp_path, monkeypatch):
    class Full:
        free = 0

    path, numpys = tmp_path / "x.npy", OSError("1024 requested and 512 written")
    with pytest.raises(OSError, match="1024 requested"), atomic_write(path):
        raise numpys
    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    with pytest.raises(OSError, match="No space left") as error, atomic_write(path):
        raise numpys
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
