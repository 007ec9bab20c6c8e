import hashlib
import os
from pathlib import Path

import pytest

from fashion.core.dataset import DataFile
from fashion.core.errors import UserError
from stages import fetch
from stages.fetch import fetch_file
from tests.stages.running import run_stage
from tests.support.faulty_server import faulty_server

CONTENT = bytes(range(256)) * 400
NAME = "train-images-idx3-ubyte.gz"
FILE = DataFile(name=NAME, bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


def folder_with(tmp_path: Path, name: str, content: bytes) -> str:
    """Return a new folder with a file NAME of this content."""
    (tmp_path / name).mkdir()
    (tmp_path / name / NAME).write_bytes(content)
    return str(tmp_path / name)


@pytest.fixture(scope="module")
def server():
    """Yield the address of a server whose paths fail in different ways."""
    with faulty_server({NAME: CONTENT}) as address:
        yield address


def test_failed_sources_are_reported_and_the_next_one_gives_the_file(tmp_path, server, capsys):
    reasons = {
        str(tmp_path / "absent"): "no such folder",
        "~nosuchuser/data": "Could not determine home directory",
        "x" * 300: "[Errno 36] File name too long",
        folder_with(tmp_path, "short", CONTENT[:-1]): "short: 102,399 bytes, expected 102,400",
        folder_with(tmp_path, "altered", bytes(len(CONTENT))): "altered: SHA-256",
        f"{server}/missing": "404 Not Found",
        f"{server}/altered": "altered: SHA-256",
        f"{server}/page": "short: 20 bytes",
        f"{server}/cut": "ProtocolError",
        f"{server}/loop": "TooManyRedirects",
        "http://127.0.0.1:1": "ConnectionError",
    }
    target = tmp_path / "raw" / NAME
    assert fetch_file(FILE, [*reasons, f"{server}/good/"], target) == f"{server}/good/"
    reports = capsys.readouterr().err.splitlines()
    for report, (source, reason) in zip(reports, reasons.items(), strict=True):
        assert report.startswith(f"fetch: {NAME} not from {source}: {reason}")
    assert target.read_bytes() == CONTENT
    target.unlink()
    good = folder_with(tmp_path, "good", CONTENT)
    assert fetch_file(FILE, [good], target) == good and target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [NAME]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("endless", f"long: more than {len(CONTENT):,} bytes"),
        ("drip", "too slow"),
        ("stall", "ReadTimeoutError"),
    ],
)
def test_a_server_that_does_not_end_is_given_up(tmp_path, server, kind, reason, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 1)
    monkeypatch.setattr(fetch, "MIN_BYTES_PER_SECOND", 1_000_000)
    with pytest.raises(UserError, match=f"{server}/{kind}: {reason}"):
        fetch_file(FILE, [f"{server}/{kind}"], tmp_path / "raw" / NAME)
    assert list((tmp_path / "raw").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_a_failed_source(tmp_path):
    source = folder_with(tmp_path, "secret", CONTENT)
    (tmp_path / "secret" / NAME).chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        fetch_file(FILE, [source], tmp_path / NAME)


def test_the_environment_comes_before_the_sources_and_without_any_a_message_says_what_to_do(
    repository, synthetic_data
):
    repository.set("sources=[/nonexistent]")
    output = run_stage(
        repository.folder, "fetch", DATA_DIR="/nowhere", FASHION_MNIST_DIR=str(synthetic_data)
    )
    assert output.count(f"from {synthetic_data}") == 4 and "/nonexistent" not in output
    output = run_stage(repository.folder, "fetch")
    assert output.startswith("fetch: no source has train-images") and output.count("\n") == 4
    assert "/nonexistent: no such folder" in output
    assert "DATA_DIR=" in output and "`make demo`" in output
