"""What check reads (gate.yaml, metrics/noise.json), how it judges, and the report it writes."""

import json

import numpy as np
import pandas as pd
import pytest

from fashion.core.errors import UserError
from fashion.core.strict_yaml import check_config, parse_yaml
from tools.gate import judge
from tools.gate.config import Gate
from tools.gate.judge import Judgement, analyse, differing, remarks_on
from tools.gate.noise import Noise
from tools.gate.report import bullets, code_block, escape, evidence, shown, verdict_of
from tools.gate.score import image_digests
from tools.gate.sequential import UNDECIDED, Analysis, compare, decide, plan_analyses

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


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (json.dumps(NOISE).replace("0.87,", "NaN,"), "metrics.accuracy.0"),
        (json.dumps(NOISE | {"seeds": [1, 1, 2, 3, 4]}), "each seed occurs once"),
        (json.dumps(NOISE | {"seeds": [1, 2, 3, 4, 5, 6]}), "a value for each seed"),
        (json.dumps(NOISE | {"unknown": 1}), "unknown"),
        ("[]", "here"),
        ("", "here"),
    ],
)
def test_noise_that_says_nothing_is_refused(content, named):
    with pytest.raises(UserError, match=named) as error:
        check_config(parse_yaml(content, "here"), "here", Noise)
    assert "here" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("margin: 0.015", "margin: 0.0", "metrics.accuracy.margin"),
        ("floor: 0.85", "floor: .nan", "metrics.accuracy.floor"),
        ("higher", "highest", "metrics.accuracy.better"),
        ("false_alarms: 0.005", "false_alarms: 0.0", "false_alarms"),
        ("missed: 0.1", "missed: 1.0", "missed"),
        ("[2, 4]", "[4, 2]", "interim_runs"),
        ("accuracy: {better: higher, margin: 0.015, floor: 0.85}", "{}", "metrics"),
        ("missed", "sigmas", "sigmas"),
    ],
)
def test_a_gate_that_lets_all_through_is_refused(old, new, named):
    with pytest.raises(UserError, match=named):
        check_config(parse_yaml(GATE.replace(old, new), "gate.yaml"), "gate.yaml", Gate)


def test_every_class_is_gated_and_a_gated_metric_that_nobody_measures_is_named():
    columns = ["accuracy", "class_f1/T-shirt/top", "class_f1/Bag", "class_recall/Bag"]
    assert [*RULES.rules_by_column(columns)] == columns[:3]
    with pytest.raises(UserError, match=r"gate\.yaml names accuracy, which is not among"):
        RULES.rules_by_column(["loss", "class_f1/Bag"])
    with pytest.raises(UserError, match=r"gate\.yaml names class_f1, which is not among"):
        RULES.rules_by_column(["accuracy"])


def test_metrics_differ_if_numbers_do_or_words():
    claims = {"a": 0.5, "b": [1, 2], "c": "x", "d": "x", "e": [1], "f": 0.5, "g": 1}
    measured = {"a": 0.50004, "b": [1, 2.1], "c": "x", "d": "y", "e": "x", "f": 0.50006}
    assert differing(claims, measured) == ["b", "d", "e", "f"]


def test_images_that_numpy_cannot_read_without_running_code_are_an_error(tmp_path):
    np.save(tmp_path / "a.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy can't be read"):
        image_digests(tmp_path / "a.npy")


def test_markdown_in_names_is_escaped_and_code_is_not():
    text = "x\n### ✓ [a](b) **bold** <b> macro_f1 _em_ `dvc repro`"
    shown = r"x \#\#\# ✓ \[a\](b) \*\*bold\*\* \<b> macro_f1 \_em\_ `dvc repro`"
    assert escape(text) == shown


def judgement(loss: float, runs: int) -> Judgement:
    """Return a judgement of runs that lose `loss` of accuracy, and half of it in class A|B."""
    baseline = pd.DataFrame({name: [0.86, 0.87, 0.88] for name in COLUMNS})
    now = dict.fromkeys(COLUMNS, 0.87) | {COLUMNS[0]: 0.87 - loss, COLUMNS[1]: 0.87 - loss / 2}
    now |= {COLUMNS[3]: 0.86}
    candidate = pd.DataFrame([now] * max(1, runs))
    analysis = Analysis(len(candidate), 3.0, 2.0 if runs else None)
    opponents = {"baseline": baseline, "reference": pd.concat([baseline, baseline]) - 0.1}
    compared = {name: compare(opponents[name], candidate, RULES, analysis) for name in opponents}
    committed = candidate[:1] + (0.001 if runs else 0)
    return Judgement(pd.concat(compared), opponents, committed, candidate[:runs], {}, [])


CLASSES = ("class_f1/A|B", "class_precision/A|B", "class_recall/A|B", "class_f1/" + "m" * 40)
COLUMNS = ("accuracy", *CLASSES)
HIGHER = {"better": "higher", "margin": 0.03, "floor": 0.5}
RULES = {"false_alarms": 0.005, "missed": 0.1, "interim_runs": [2, 4]}
RULES = Gate.model_validate(RULES | {"metrics": {"accuracy": HIGHER, "class_f1": HIGHER}})


@pytest.mark.parametrize(
    ("loss", "runs", "verdict", "sentences"),
    [
        (0.2, 2, "regression", [
            "accuracy is worse than the baseline by 0.2000; chance explains 0.0224, over 2 seeds.",
            '"chance" is the largest loss that chance explains', '"no loss" means that',
            "- A\\|B: F1 0.870 → 0.770, precision 0.870, recall 0.860", "-0.2000 | 0.0224 | worse",
            "Classes not shown (1): no loss.",
            "| F1 of A\\|B |   0.8700 |    0.7700 |    0.7710 |"]),
        (0.4, 0, "regression", [
            "accuracy is 0.4700, below its floor of 0.5, in the committed run.", "| below floor |",
            "Classes not shown (2): open.", "3 runs of the baseline and 1 run of the candidate:"]),
        (0.0, 2, "no loss", [
            "With 2 further seeds, the test rules out", "+0.0000 | 0.0224 | no loss |",
            "Classes not shown (2): no loss.", "Means of 3 runs of the baseline and 2 runs of the",
            "Means of 6 runs of the reference and 2 runs of the candidate:"]),
        (-0.1, 2, "no loss", [
            "0.9700 |    0.9710 | +0.1000 | 0.0224 | better ", "- A\\|B: F1 0.870 → 0.920,"]),
        (0.02, 1, "a loss of up to 0.0431 in accuracy is not ruled out", [
            "| up to 0.0431 |", "With 1 further seed, no metric and no class is worse"]),
    ],
)  # fmt: skip
def test_a_judgement_is_put_into_words(loss, runs, verdict, sentences):
    found = judgement(loss, runs)
    status, text, reason = verdict_of(found)
    assert (status, text) == (int(verdict == "regression"), verdict)
    report = "\n\n".join([reason, *evidence(found)])
    assert [one for one in sentences if one not in report] == [], report
    assert ("Classes that changed most" in report) == (abs(loss / 2) >= 0.02)


def test_lines_have_at_most_100_columns_and_lists_20_lines():
    parts = evidence(judgement(0.2, 2))
    parts += [bullets(["a/long/" + "path" * 40, *["x"] * 30]), code_block("word " * 90)]
    text = "\n".join([*parts, shown("m" * 40)])
    assert max(map(len, text.splitlines())) <= 100 and "and 11 more" in text and "mmm…" in text


def test_a_regression_against_the_reference_counts_and_no_run_is_trained_twice(monkeypatch):
    rules = {"accuracy": HIGHER | {"margin": 0.01}}
    gate = Gate.model_validate(RULES.model_dump() | {"metrics": rules})
    runs = pd.DataFrame({"accuracy": np.linspace(0.86, 0.88, 12)})
    committed, trained, planned = pd.DataFrame({"accuracy": [0.9]}, index=[3]), [], []

    def train(seeds: list[int]) -> pd.DataFrame:
        trained.append(seeds)
        return pd.DataFrame({"accuracy": 0.87}, index=seeds)

    def plan(*arguments) -> list[Analysis]:
        planned.append((len(arguments[0]), arguments[3]))
        return plan_analyses(*arguments)

    monkeypatch.setattr(judge, "plan_analyses", plan)
    opponents = {"baseline": runs + 0.007, "reference": runs[1:] + 0.04}
    rows, _ = analyse(gate, opponents, committed, [[7, 5], [7, 5, 6, 1]], train)
    assert decide(rows) == ("regression", ("reference", "accuracy"))
    assert trained == [[7, 5]]
    opponents.pop("reference")
    rows, further = analyse(gate, opponents, committed, [[7, 5], [7, 5, 6, 1]], train)
    assert decide(rows)[0] == UNDECIDED and trained[1:] == [[7, 5], [6, 1]]
    assert list(further.index) == [7, 5, 6, 1]
    # runs, and comparisons that share the false alarms
    assert planned == [(12, 2), (11, 2), (12, 1)]


def test_a_metric_that_is_better_in_one_split_only_is_remarked():
    rows = pd.DataFrame(
        {"loss": [-0.1, -0.001, -0.001, -0.1, -0.1, -0.1], "chance": 0.02, "finding": "better"},
        index=["accuracy", "val_accuracy", "loss", "val_loss", "f1", "val_f1"],
    )
    rows.loc[["val_accuracy", "loss"], "finding"] = "no loss"
    remarks = remarks_on(rows, *[pd.DataFrame()] * 3)
    assert [text.split(".")[0] for text in remarks] == [
        "accuracy is better than chance explains, and val_accuracy is not",
        "val_loss is better than chance explains, and loss is not",
    ]


def test_a_committed_run_unlike_its_own_seeds_is_remarked():
    rows = pd.DataFrame({"loss": 0.0, "chance": 0.02, "finding": "no loss"}, index=["accuracy"])
    noise = pd.DataFrame({"accuracy": [0.77, 0.78, 0.79]})  # that of the baseline, which is worse
    runs = noise + 0.1
    assert remarks_on(rows, noise, runs[:1], runs) == []
    assert remarks_on(rows, noise, runs[:1], runs[:1]) == []
    assert len(remarks_on(rows, noise, runs[1:2] + 0.012 * judge.OUTLIER, runs)) == 1
    [remark] = remarks_on(rows, noise, noise[1:2], runs)
    assert "an outlier among its seeds: accuracy 0.7800, seeds 0.8800 ± 0.0100." in remark
