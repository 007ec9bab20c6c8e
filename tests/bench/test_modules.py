"""The benchmarks, which run for minutes or hours, still fit the code that they measure."""

from importlib import import_module
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("TensorFlow")  # so that one process loads it


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROJECT / "bench").glob("*.py")))
def test_what_a_benchmark_imports_is_there(name):
    import_module(f"bench.{name}")
