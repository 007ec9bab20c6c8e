import json

import pytest

from tools.audit import verdict

WHOLE = {"name": "numpy", "version": "2.0.0", "vulns": []}
HOLED = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2023-175", "fix_versions": ["10.0.1"], "description": ""}],
}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([WHOLE], 0, "1 packages looked up, 0 with known vulnerabilities"),
        ([WHOLE, HOLED], 1, "pillow 9.0.0: PYSEC-2023-175, mended in 10.0.1"),
        ([HOLED | {"vulns": [{"id": "X", "fix_versions": []}]}], 1, "mended in no version yet"),
        ([WHOLE, UNKNOWN], 0, "not in the list: ours"),
        ([UNKNOWN, UNKNOWN], 0, "nothing was looked up"),
    ],
)
def test_it_fails_on_known_vulnerabilities_and_says_what_it_could_not_look_up(
    packages, status, said
):
    found, text = verdict(json.dumps({"dependencies": packages}), "")
    assert found == status and said in text


def test_a_failure_of_pip_audit_is_one():
    status, text = verdict("", "ERROR:pip_audit._cli:requirements.txt: no hash for numpy\n")
    assert status == 1 and "no hash for numpy" in text
    assert verdict("", "") == (1, "audit: pip-audit failed: it says nothing")


def test_without_the_list_it_says_so():
    status, text = verdict("", "Traceback\nConnectionError: can't reach it\n")
    assert status == 0 and "nothing was looked up" in text and "ConnectionError" in text
