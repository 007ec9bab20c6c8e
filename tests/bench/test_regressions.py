import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PATCHES = sorted((PROJECT / "bench/regressions").glob("*.patch"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_regression_can_be_applied_to_the_code_as_it_is(patch):
    subprocess.run(["git", "apply", "--check", str(patch)], cwd=PROJECT, check=True)


def test_there_are_some():
    assert len(PATCHES) >= 5
