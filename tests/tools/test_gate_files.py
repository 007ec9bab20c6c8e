"""What check reads, gate.yaml and metrics/noise.json, and the report that it writes."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from fashion.core.errors import UserError
from fashion.core.strict_yaml import check_config, parse_yaml
from tools.gate.config import Gate, MetricRule
from tools.gate.judge import Judgement
from tools.gate.noise import parse_noise
from tools.gate.report import Report, escape, markdown, verdict_of
from tools.gate.sequential import NO_LOSS, REGRESSION, UNDECIDED, Analysis, Comparison

GATE = """
false_alarms: 0.005
missed: 0.1
interim_runs: [2, 4]
metrics:
  accuracy: {better: higher, margin: 0.015, floor: 0.85}
"""
NOISE = {
    "belongs_to": {"code": "0"},
    "seeds": [1, 2, 3, 4, 5],
    "metrics": {"accuracy": [0.87, 0.88, 0.875, 0.872, 0.879]},
}
HIGHER = MetricRule(better="higher", margin=0.015, floor=0.5)


def test_noise_is_read_as_a_table():
    table = parse_noise(json.dumps(NOISE), "here").table
    assert table.loc[2, "accuracy"] == 0.88 and list(table.index) == NOISE["seeds"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (json.dumps(NOISE).replace("0.87,", "NaN,"), "metrics.accuracy.0"),
        (json.dumps(NOISE).replace("0.87,", "Infinity,"), "metrics.accuracy.0"),
        (json.dumps(NOISE | {"seeds": [1, 2, 3, 4]}), "seeds"),
        (json.dumps(NOISE | {"seeds": [1, 1, 2, 3, 4]}), "a seed occurs twice"),
        (json.dumps(NOISE | {"seeds": [1, 2, 3, 4, 5, 6]}), "5 values for 6 seeds"),
        (json.dumps(NOISE | {"unknown": 1}), "unknown"),
        ("[]", "here"),
        ("", "not JSON"),
        ("[" * 99999, "not JSON"),
    ],
)
def test_noise_that_says_nothing_is_refused(content, named):
    with pytest.raises(UserError, match=named) as error:
        parse_noise(content, "here")
    assert "here" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("margin: 0.015", "margin: 0.0", "metrics.accuracy.margin"),
        ("margin: 0.015", "margin: .inf", "metrics.accuracy.margin"),
        ("floor: 0.85", "floor: .nan", "metrics.accuracy.floor"),
        ("higher", "highest", "metrics.accuracy.better"),
        ("false_alarms: 0.005", "false_alarms: 0.0", "false_alarms"),
        ("missed: 0.1", "missed: 1.0", "missed"),
        ("[2, 4]", "[4, 2]", "interim_runs"),
        ("[2, 4]", "[0]", "interim_runs"),
        ("accuracy: {better: higher, margin: 0.015, floor: 0.85}", "{}", "metrics"),
        ("missed", "sigmas", "sigmas"),
    ],
)
def test_a_gate_that_lets_all_through_is_refused(old, new, named):
    with pytest.raises(UserError, match=named):
        check_config(parse_yaml(GATE.replace(old, new), "gate.yaml"), "gate.yaml", Gate)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("T-shirt/top", "T-shirt/top"),
        ("a|b", "a\\|b"),
        ("x\n### ✓ no loss", "x \\#\\#\\# ✓ no loss"),
        ("[a](b) **bold** <b>", "\\[a\\](b) \\*\\*bold\\*\\* \\<b>"),
        ("macro_f1 _em_", "macro_f1 \\_em\\_"),
        ("`dvc repro`", "`dvc repro`"),
    ],
)
def test_markdown_in_names_is_escaped(text, shown):
    assert escape(text) == shown


def judgement(finding: str, *rows: Comparison) -> Judgement:
    metrics = [row.metric for row in rows]
    numbers = dict.fromkeys(metrics, 0.8) | {
        f"class_{kind}/{name.partition('/')[2]}": 0.8
        for kind in ("precision", "recall")
        for name in metrics
    }
    runs = pd.DataFrame([numbers, numbers])
    comparisons = {"baseline": list(rows)}
    return Judgement(finding, rows[0], "baseline", comparisons, {"baseline": runs}, numbers, runs)


AFTER_TWO = Analysis(runs=2, worse=3.0, not_worse=2.0)
WORSE = Comparison("accuracy", 0.87, 0.85, 0.02, 0.005, HIGHER, AFTER_TWO)
SAME = Comparison("class_f1/A|B", 0.87, 0.87, 0.0, 0.005, HIGHER, AFTER_TWO)
OPEN = Comparison("macro_f1", 0.87, 0.86, 0.01, 0.004, HIGHER, AFTER_TWO)
LOW = replace(SAME, candidate=0.4, metric="class_f1/" + "x" * 40)


@pytest.mark.parametrize(
    ("finding", "rows", "verdict", "lines"),
    [
        (
            REGRESSION,
            (WORSE, SAME),
            "✗ regression",
            ["0.0200", "chance explains 0.0150", "2 seeds"],
        ),
        (REGRESSION, (LOW,), "✗ regression", ["its floor is 0.5", "| below floor"]),
        (NO_LOSS, (SAME,), "✓ no loss", ["Another 1 classes: no loss."]),
        (UNDECIDED, (OPEN,), "✓ a loss of up to 0.0180 in macro_f1", ["| up to 0.0180"]),
    ],
)
def test_the_report_has_the_verdict_first_and_fits_100_columns(finding, rows, verdict, lines):
    found = judgement(finding, *rows)
    status, text, reason = verdict_of(found)
    review = ["a/long/" + "path" * 40, *["x"] * 30]
    report = Report(status, text, "--seeds 2", "", reason, judgement=found, review=review)
    report = markdown(report)
    assert report.startswith(f"### {verdict}") and "(--seeds 2)" in report.splitlines()[0]
    assert all(line in report for line in lines), report
    assert max(map(len, report.splitlines())) <= 100 and "and 11 more" in report
