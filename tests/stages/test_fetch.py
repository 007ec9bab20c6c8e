import hashlib
import os
import time
from pathlib import Path

import pytest

from fashion.core.dataset import DataFile
from fashion.core.errors import UserError
from stages import fetch
from stages.fetch import fetch_file
from tests.support.faulty_server import faulty_server

CONTENT = bytes(range(256)) * 400
NAME = "train-images-idx3-ubyte.gz"
FILE = DataFile(name=NAME, bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


def folder_with(tmp_path: Path, name: str, content: bytes) -> str:
    (tmp_path / name).mkdir()
    (tmp_path / name / NAME).write_bytes(content)
    return str(tmp_path / name)


@pytest.fixture
def server():
    with faulty_server({NAME: CONTENT}) as address:
        yield address


def test_a_folder_gives_the_file_unchanged(tmp_path):
    fetch_file(FILE, [folder_with(tmp_path, "source", CONTENT)], tmp_path / "raw" / NAME)
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT


def test_a_web_address_gives_the_file_unchanged(tmp_path, server):
    fetch_file(FILE, [f"{server}/good/"], tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_bad_sources_are_reported_and_the_next_one_tried(tmp_path, server, capsys):
    sources = [
        str(tmp_path / "absent"),
        folder_with(tmp_path, "short", CONTENT[:-1]),
        folder_with(tmp_path, "altered", bytes(len(CONTENT))),
        f"{server}/missing",
        f"{server}/altered",
        f"{server}/page",
        f"{server}/cut",
        folder_with(tmp_path, "good", CONTENT),
    ]
    fetch_file(FILE, sources, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    reports = capsys.readouterr().err.splitlines()
    reasons = [
        "no such folder",
        "short: 102,399 bytes",
        "altered: SHA-256",
        "404",
        "altered: SHA-256",
        "short: 20 bytes",
        "broke off",
    ]
    assert len(reports) == len(reasons)
    for report, source, reason in zip(reports, sources, reasons, strict=False):
        assert NAME in report and source in report and reason in report


def test_when_all_fail_one_message_lists_them_and_nothing_is_left(tmp_path):
    sources = [str(tmp_path / "absent"), folder_with(tmp_path, "short", b"x"), "http://127.0.0.1:1"]
    with pytest.raises(UserError) as error:
        fetch_file(FILE, sources, tmp_path / "raw" / NAME)
    for source, reason in zip(
        sources, ["no such folder", "1 bytes, expected 102,400", "can't be reached"], strict=True
    ):
        assert any(source in line and reason in line for line in str(error.value).splitlines())
    assert "FASHION_MNIST_DIR=" in str(error.value) and "make demo" in str(error.value)
    assert list((tmp_path / "raw").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_a_failed_source(tmp_path):
    source = folder_with(tmp_path, "secret", CONTENT)
    (tmp_path / "secret" / NAME).chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        fetch_file(FILE, [source], tmp_path / NAME)


def test_the_environment_comes_before_the_sources(repository, drawings):
    repository.set("sources=[/nonexistent]")
    output = repository.dvc("repro", "fetch", FASHION_MNIST_DIR=str(drawings))
    assert output.count(f"from {drawings}") == 4 and "/nonexistent" not in output


def test_without_any_source_dvc_repro_fails_with_the_message_and_no_traceback(repository):
    repository.set("sources=[/nonexistent]")
    output = repository.dvc("repro", "fetch", status=255)
    assert (
        "/nonexistent: no such folder" in output
        and "FASHION_MNIST_DIR=" in output
        and "Traceback" not in output
    )
    assert not any((repository.folder / "data/raw").glob("*"))


def test_a_relative_folder_is_found_from_a_temporary_workspace(repository, drawings):
    (repository.folder.parent / "shared").symlink_to(drawings)
    repository.set("sources=[../shared]")
    output = repository.dvc("exp", "run", "--temp")
    assert "from ../shared" in output and "Ran experiment" in output


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("endless", f"long: more than {len(CONTENT):,} bytes"),
        ("drip", "too slow"),
        ("stall", "no answer within 1 seconds"),
        ("loop", "redirects without end"),
    ],
)
def test_a_lying_server_is_left_after_a_bounded_time(
    tmp_path, server, kind, reason, capsys, monkeypatch
):
    monkeypatch.setattr(fetch, "TIMEOUT", 1)
    monkeypatch.setattr(fetch, "MIN_BYTES_PER_SECOND", 1_000_000)
    sources = [f"{server}/{kind}", folder_with(tmp_path, "whole", CONTENT)]
    begun = time.monotonic()
    fetch_file(FILE, sources, tmp_path / "raw" / NAME)
    assert time.monotonic() - begun < 10
    assert f"not from {sources[0]}: {reason}" in capsys.readouterr().err
    assert (tmp_path / "raw" / NAME).read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [NAME]
