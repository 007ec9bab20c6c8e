import shutil
from pathlib import Path

import pytest

from bench.regressions import REGRESSIONS

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda one: one.name)
def test_a_regression_can_be_applied_to_the_code_as_it_is(regression, tmp_path):
    for path in filter(None, ("params.yaml", regression.path)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / path, tmp_path / path)
    before = {path: path.read_text() for path in tmp_path.rglob("*.*")}
    regression.apply(tmp_path)
    assert any(path.read_text() != text for path, text in before.items())
    if regression.path:
        compile((tmp_path / regression.path).read_text(), regression.path, "exec")
