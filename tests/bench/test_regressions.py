import shutil

import pytest

from bench.gate import REGRESSIONS
from tests.support.repository import PROJECT


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda one: one.name)
def test_a_regression_can_be_applied_to_the_code_as_it_is(regression, tmp_path):
    paths = ["params.yaml", *filter(None, [regression.path])]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / path, tmp_path / path)
    regression.apply(tmp_path)
    assert any((tmp_path / path).read_text() != (PROJECT / path).read_text() for path in paths)
    if regression.path:
        compile((tmp_path / regression.path).read_text(), regression.path, "exec")
