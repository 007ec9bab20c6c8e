import json

import pytest

from bench.measure import alternate, measure, record, table
from fashion.core.errors import UserError

PROGRAM = """
import time
memory = b"x" * 50_000_000
for epoch in (1, 2, 3):
    time.sleep(0.2 if epoch > 1 else 1)
    print(f"{line}")
"""


@pytest.mark.parametrize("line", ["epoch {epoch}/3 loss 0.5", "844/844 - 4s - loss: 0.5"])
def test_a_command_is_measured_with_its_memory_and_epochs_after_the_first(line, tmp_path):
    taken = measure(tmp_path, "-c", PROGRAM.format(line=line))
    assert taken["seconds an epoch"] < taken["seconds"] - 1
    assert 50 < taken["MB"] < 150


def test_a_command_that_fails_is_named_with_its_last_lines(tmp_path):
    with pytest.raises(UserError, match=r"(?s)^`python -c .*` failed:\nwhy\n.*ZeroDivisionError"):
        measure(tmp_path, "-c", "print('why'); 1 / 0")


def test_rivals_take_turns_and_each_begins():
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
