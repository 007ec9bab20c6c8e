"""The rules that check judges by: what is refused, what differs."""

import copy
import json
from pathlib import Path

import pytest

from fashion.errors import UserError
from tools.gate.rules import fingerprint, parse_rules, rule_changes

GATE = """
false_alarms: 0.005
missed: 0.1
looks: [1, 3]
metrics:
  accuracy: {better: higher, margin: 0.015, floor: 0.85}
"""
NOISE = {
    "seeds": [1, 2, 3, 4, 5],
    "metrics": {"accuracy": [0.87, 0.88, 0.875, 0.872, 0.879]},
    "params": {},
    "environment": {},
}


def files(gate: str = GATE, noise: dict | str = NOISE, reference: dict | None = None) -> dict:
    found = {"gate.yaml": gate, "metrics/noise.json": noise}
    if reference:
        found["metrics/reference.json"] = reference
    return {
        path: (content if isinstance(content, str) else json.dumps(content)).encode()
        for path, content in found.items()
    }


def noise(**values) -> dict:
    return NOISE | values


def test_rules_are_read():
    rules = parse_rules(files(reference=NOISE), "here")
    assert rules.noise.table["accuracy"].to_dict()[2] == 0.88
    assert rules.gate.metrics["accuracy"].floor == 0.85 and rules.reference == rules.noise
    assert parse_rules(files(), "here").reference is None


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"metrics": {"accuracy": [NaN, 1, 1, 1, 1]}, "seeds": [1, 2, 3, 4, 5]}', "accuracy.0"),
        (noise(metrics={"accuracy": [float("inf"), 1, 1, 1, 1]}), "metrics.accuracy.0"),
        (noise(seeds=[1], metrics={"accuracy": [0.9]}), "seeds"),
        (noise(seeds=[1, 2], metrics={"accuracy": [0.9, 0.8]}), "of 2 runs; 5 are needed"),
        (noise(seeds=[1, 1, 2, 3, 4]), "a seed stands there twice"),
        (noise(metrics={"accuracy": [0.9, 0.8]}), "2 values for 5 seeds"),
        (noise(metrics={"accuracy": [0.9] * 5}), "accuracy is the same for all seeds"),
        (noise(metrics={"loss": [1, 2, 3, 4, 5.0]}), "does not have accuracy"),
        (noise(unknown=1), "unknown"),
        ("[]", "metrics/noise.json of here"),
        ("", "not JSON"),
    ],
)
def test_noise_that_says_nothing_is_refused(content, named):
    with pytest.raises(UserError, match=named) as error:
        parse_rules(files(noise=content), "here")
    assert "here" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("margin: 0.015", "margin: 0.0", "metrics.accuracy.margin"),
        ("margin: 0.015", "margin: -1.0", "metrics.accuracy.margin"),
        ("margin: 0.015", "margin: .inf", "metrics.accuracy.margin"),
        ("floor: 0.85", "floor: .nan", "metrics.accuracy.floor"),
        ("higher", "highest", "metrics.accuracy.better"),
        ("false_alarms: 0.005", "false_alarms: 0.0", "false_alarms"),
        ("false_alarms: 0.005", "false_alarms: 0.9", "false_alarms"),
        ("missed: 0.1", "missed: 1.0", "missed"),
        ("[1, 3]", "[3, 1]", "looks"),
        ("[1, 3]", "[]", "looks"),
        ("[1, 3]", "[0]", "looks"),
        ("accuracy: {better: higher, margin: 0.015, floor: 0.85}", "{}", "metrics"),
        ("missed", "sigmas", "sigmas"),
    ],
)
def test_a_gate_that_lets_all_through_is_refused(old, new, named):
    with pytest.raises(UserError, match=named):
        parse_rules(files(gate=GATE.replace(old, new)), "here")


@pytest.mark.parametrize("path", ["gate.yaml", "metrics/noise.json"])
def test_missing_rules_are_named(path):
    with pytest.raises(UserError, match=f"there is no {path} in here"):
        parse_rules({name: text for name, text in files().items() if name != path}, "here")


def test_each_difference_is_listed():
    changed = copy.deepcopy(NOISE)
    changed["metrics"]["accuracy"][0] = 0.5
    now = files(gate=GATE.replace("0.85", "0.1"), noise=changed, reference=NOISE)
    assert rule_changes(files(), now) == [
        "gate.yaml: metrics.accuracy.floor: 0.85 -> 0.1",
        "metrics/noise.json: metrics.accuracy: 0.8752 ± 0.0043 of 5 -> 0.8012 ± 0.1684 of 5",
        "metrics/reference.json is new",
    ]
    assert rule_changes(now, files())[-1] == "metrics/reference.json is missing now"
    assert rule_changes(files(), files()) == []
    assert "written otherwise" in rule_changes(files(), files(gate=GATE + "# comment\n"))[0]
    assert "can't be read" in rule_changes(files(), files(gate="{"))[0]


def test_a_fingerprint_is_of_all_files():
    prints = {fingerprint(files()), fingerprint(files(reference=NOISE))}
    prints.add(fingerprint(files(gate=GATE.replace("0.85", "0.1"))))
    assert len(prints) == 3 and fingerprint(files()) in prints


def test_the_committed_gate_has_metrics_that_there_are():
    project = Path(__file__).parents[2]
    paths = ("gate.yaml", "metrics/noise.json", "metrics/reference.json")
    rules = parse_rules({path: (project / path).read_bytes() for path in paths}, "the project")
    assert len(rules.noise.seeds) >= 30
