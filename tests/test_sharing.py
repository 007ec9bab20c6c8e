"""How a team shares: one clone pushes what it made, another gets it without training."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.support.repository import Repository


@pytest.fixture
def ssh_server(tmp_path) -> Iterator[tuple[int, Path]]:
    """Run an SSH server with SFTP on loopback. Yield its port, and the key that it lets in."""
    key = tmp_path / "key"
    client, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client.write_private_key(key)
    key.chmod(0o600)
    client.write_public_key(tmp_path / "authorized")
    keys = {"server_host_keys": [host], "authorized_client_keys": str(tmp_path / "authorized")}
    loop = asyncio.new_event_loop()
    listen = asyncssh.listen("127.0.0.1", 0, sftp_factory=True, **keys)
    server = loop.run_until_complete(listen)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.get_port(), key
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture(params=["folder", "ssh"])
def remote(request, tmp_path) -> tuple[str, dict[str, str]]:
    """A DVC remote: its address, and what each clone must set to reach it."""
    (tmp_path / "remote").mkdir()
    if request.param == "folder":
        return str(tmp_path / "remote"), {}
    port, key = request.getfixturevalue("ssh_server")
    address = f"ssh://me@127.0.0.1:{port}{tmp_path / 'remote'}"
    return address, {"keyfile": str(key), "allow_agent": "false"}


def test_what_one_clone_pushes_another_gets_without_training(compared, remote, tmp_path):
    address, access = remote
    shared = str(tmp_path / "shared.git")
    compared.run("git", "init", "--quiet", "--bare", "--initial-branch=main", shared)
    compared.run("git", "remote", "add", "origin", shared)
    compared.dvc("remote", "add", "--default", "team", address)
    compared.commit("Our DVC remote")
    allow(compared, access)
    # what this one leaves is in the cache
    shorter = ("--name", "shorter", "--set-param", "train.epochs=1")
    compared.dvc("exp", "run", "--quiet", "--temp", *shorter)
    compared.run("git", "push", "--quiet", "origin", "main")
    compared.dvc("push", "--quiet")
    compared.dvc("exp", "push", "--quiet", "origin", "shorter")

    other = Repository(tmp_path / "other")
    compared.run("git", "clone", "--quiet", shared, str(other.folder))
    allow(other, access)
    assert "Running stage" not in other.dvc("repro", "--pull", FASHION_MNIST_DIR="/nowhere")
    assert other.results() == compared.results()
    other.dvc("exp", "pull", "--quiet", "origin", "shorter")
    assert "shorter" in other.dvc("exp", "show", "--csv")
    other.dvc("exp", "apply", "--quiet", "shorter")
    assert b"epochs: 1" in other.read("dvc.lock")

    stranger = Repository(tmp_path)  # in no clone at all
    access_given = [f"--remote-config={name}={value}" for name, value in access.items()]
    stranger.dvc("get", shared, "models/model.keras", "--out", "alone.keras", *access_given)
    assert stranger.read("alone.keras") == compared.read("models/model.keras")


def allow(repository: Repository, access: dict[str, str]) -> None:
    for name, value in access.items():
        repository.dvc("remote", "modify", "--local", "team", name, value)
