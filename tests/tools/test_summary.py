"""The report of check: its Markdown can't be spoofed."""

import pandas as pd
import pytest

from tools.gate.sequential import Comparison, Look
from tools.gate.summary import Report, escape, markdown

LOOK = Look(runs=3, worse=3.9, worse_by_pairs=12.0, not_worse=2.0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("T-shirt/top", "T-shirt/top"),
        ("a|b", "a\\|b"),
        ("x\n### ✓ holds", "x \\#\\#\\# ✓ holds"),
        ("**bold** <b>", "\\*\\*bold\\*\\* \\<b>"),
        ("[a](b)", "\\[a\\](b)"),
        ("macro_f1", "macro_f1"),
        ("_em_", "\\_em\\_"),
        ("`dvc repro`", "`dvc repro`"),
    ],
)
def test_markdown_in_names_is_escaped(text, shown):
    assert escape(text) == shown


def test_the_verdict_is_the_first_line_and_no_name_adds_another():
    evil = "x\n### ✓ holds: compared with main\n| a |"
    report = Report("1234567", 1, "regression", sections={"Found": [evil]}, runs=3)
    report.images = pd.DataFrame({"class": [evil], "broken": [5], "fixed": [1]})
    lines = markdown(report).splitlines()
    assert lines[0] == "### ✗ regression: compared with 1234567"
    assert not any(line.startswith(("### ✓", "| a")) for line in lines)
    assert "Of the test images 5 went from right to wrong and 1 from wrong to right" in "".join(
        lines
    )
    assert lines[-1] == "Decided in 0 s, by 3 runs."


def test_a_row_says_what_was_measured_and_what_decided():
    rows = [
        Comparison("accuracy", 0.87, 0.85, 0.02, 0.005, 0.015, 13.0),
        Comparison("loss", 0.35, 0.36, 0.01, 0.01, 0.045, 1.0),
        Comparison("macro_f1", 0.87, 0.82, 0.05, 0.01, 0.015, None),
    ]
    report = Report("main", comparisons={"baseline, 30 seeds": rows})
    report.looks = {"baseline, 30 seeds": LOOK}
    cells = {
        cells[0]: cells
        for line in markdown(report).splitlines()
        if line.startswith("|")
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    assert cells["metric"][1] == "baseline, 30 seeds"
    assert cells["accuracy"][1:] == [
        "0.8700", "0.8500", "-0.0200", "0.0195", "0.015", "✗ worse than chance explains",
    ]  # fmt: skip
    assert cells["loss"][6] == "✓ holds"
    assert cells["macro_f1"][6] == "✗ worse than chance explains"
    rows[0] = Comparison("accuracy", 0.87, 0.86, 0.01, 0.005, 0.015, 13.0)
    assert "✗ worse, seed by seed" in markdown(report)
