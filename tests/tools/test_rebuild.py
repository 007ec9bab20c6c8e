"""`make` rebuilds everything."""

import re


def test_make_rebuilds_equal_bytes(clone):
    clone.run("git", "rm", "--quiet", "metrics/noise.json")  # which it does not need
    clone.commit("No noise")
    output = clone.python("tools.rebuild")
    assert "Running stage 'train'" in output
    assert re.search(r"short: completed after \d+ s", output)
    assert clone.run("git", "status", "--porcelain") == ""
