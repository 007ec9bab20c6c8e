import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="a single process has all")
@pytest.mark.xdist_group("alone")
def test_a_group_is_known_to_pytest_xdist(request):
    """It tells groups by the end of a test's name."""
    assert request.node.nodeid.endswith("@alone")
