import json

import pytest

from bench.measure import alternate, clone, measure, record, table
from fashion.core.errors import UserError
from fashion.model.epoch_line import COLUMNS, format_epoch
from tests.support.commands import typed

PROGRAM = """
import time
memory = b"x" * 50_000_000
for epoch in (1, 2, 3):
    time.sleep(0.1 if epoch > 1 else 0.5)
    print("{line}")
"""
OUR_LINE = format_epoch(dict.fromkeys(COLUMNS, 1), 3)


@pytest.mark.parametrize("line", [OUR_LINE, "844/844 - 4s - loss: 0.5"])
def test_a_command_is_measured_with_its_memory_and_epochs_after_the_first(line, tmp_path):
    taken = measure(tmp_path, "-c", PROGRAM.format(line=line))
    assert taken["seconds an epoch"] < taken["seconds"] - 0.5
    assert 50 < taken["MB"] < 150


def test_a_clone_has_run_up_to_a_stage_from_the_raw_data_of_this_project(repository):
    with typed(repository.folder, "bench"), clone("fetch") as folder:
        raw = {path.name: path.read_bytes() for path in (folder / "data/raw").iterdir()}
        assert raw == {name: repository.read(f"data/raw/{name}") for name in raw} and len(raw) == 4
        assert not (folder / "data/prepared").exists()


def test_a_command_that_fails_is_named_with_its_last_lines(tmp_path):
    with pytest.raises(UserError, match=r"(?s)^`python -c .*` failed:\nwhy\n.*ZeroDivisionError"):
        measure(tmp_path, "-c", "print('why'); 1 / 0")


def test_rivals_alternate_and_each_begins_in_turn():
    calls = []
    rivals = {
        name: lambda name=name: calls.append(name) or {"s": len(calls), "MB": 0} for name in "ab"
    }
    measured = alternate(rivals, 3, "s")
    assert "".join(calls) == "abbaab"
    assert measured == {"a": {"s": [1, 4, 5]}, "b": {"s": [2, 3, 6]}}


def test_a_table_has_medians_with_ranges_and_ratios_of_repetitions():
    groups = {"two": {"x": {"s": [1, 3, 2]}, "y": {"s": [2, 2, 8]}}, "one": {"x": {"s": [1234.5]}}}
    two, one = table(groups)
    assert list(two) == list(one) == ["", "x, s", "y, s", "x / y", "repetitions"]
    assert list(two.values()) == ["two", "2 (1 to 3)", "2 (2 to 8)", "0.5 (0.25 to 1.5)", "3"]
    assert list(one.values()) == ["one", "1,230", "", "", "1"]


def test_a_section_is_recorded_beside_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.measure.RESULTS", tmp_path)
    for section, values in (("a", [1]), ("b", [2]), ("a", [3])):
        record("program", section, values, lambda sections: {"all": [sections]})
    tables = json.loads((tmp_path / "program.json").read_text())["tables"]
    assert tables == {"all": [{"a": [3], "b": [2]}]}
