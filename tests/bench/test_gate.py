import shutil

import numpy as np
import pandas as pd
import pytest

from bench.gate import KINDS, UNCHANGED, change, summary
from tests.support.repository import PROJECT
from tools.gate.config import Gate
from tools.gate.sequential import plan_analyses

RULES = {name: {"better": "higher", "margin": 0.05} for name in ("accuracy", "class_f1")}
GATE = {"false_alarms": 0.01, "missed": 0.1, "interim_runs": [2, 4], "metrics": RULES}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_the_current_code_or_params(kind, tmp_path):
    paths = ["params.yaml", "stages/prepare.py"]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / path, tmp_path / path)
    change(tmp_path, KINDS[kind])
    is_equal = [(tmp_path / path).read_bytes() == (PROJECT / path).read_bytes() for path in paths]
    assert all(is_equal) == (kind == UNCHANGED)
    compile((tmp_path / "stages/prepare.py").read_text(), kind, "exec")


def test_a_summary_counts_the_checks_that_find_a_loss(monkeypatch):
    monkeypatch.setattr("bench.gate.CHECKS", 30)
    gate, columns = Gate.model_validate(GATE), ["accuracy", "class_f1/Bag", "class_f1/Shirt"]
    scores = np.random.default_rng(0).normal(0.9, 0.002, (39, 3))
    runs = pd.DataFrame(scores, columns=columns)
    analyses = plan_analyses(runs[:30], gate.interim_runs, gate)
    for lost, found, metric in ((0, 0, ""), (0.1, 30, "class_f1/Bag")):
        row = summary("kind", runs[30:] - [0, lost, 0], runs[:30], analyses, gate)
        assert (row["found"], row["mostly_by"], row["runs"]) == (found, metric, 9)
        assert row["largest_loss_of_f1"] == pytest.approx(lost, abs=0.01)
