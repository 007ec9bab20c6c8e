"""The benchmarks, which run for minutes or hours, still fit the code that they measure."""

from importlib import import_module
from pathlib import Path

import pytest

from bench import gate

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("TensorFlow")  # so that one process loads it


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROJECT / "bench").glob("*.py")))
def test_what_a_benchmark_imports_is_there(name):
    import_module(f"bench.{name}")


def test_the_code_that_the_benchmark_of_the_gate_spoils_is_there():
    for change in gate.KINDS.values():
        for file, old, _ in change if isinstance(change, list) else []:
            assert old in (PROJECT / file).read_text(), file
