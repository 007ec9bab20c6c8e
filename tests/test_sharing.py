"""How a team shares: one clone pushes what it made, another gets it without training.

The other is a clone of the same Git remote.
"""

import asyncio
import threading

import asyncssh
import pytest

from tests.support.repository import Repository


@pytest.fixture
def ssh_server(tmp_path):
    """Run a real SSH server on loopback, with SFTP.

    Yield its port, and the file of the one key that it lets in.
    """
    client, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client.write_private_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    client.write_public_key(tmp_path / "authorized")
    loop = asyncio.new_event_loop()
    listen = asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host],
        authorized_client_keys=str(tmp_path / "authorized"),
        sftp_factory=True,
    )
    server = loop.run_until_complete(listen)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.get_port(), tmp_path / "key"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture(params=["folder", "ssh"])
def remote(request, tmp_path):
    """A DVC remote: its address, and what each clone must set to reach it."""
    (tmp_path / "remote").mkdir()
    if request.param == "folder":
        return str(tmp_path / "remote"), {}
    port, key = request.getfixturevalue("ssh_server")
    return f"ssh://me@127.0.0.1:{port}{tmp_path / 'remote'}", {
        "keyfile": str(key),
        "allow_agent": "false",
    }


def test_what_one_clone_pushes_another_gets_without_training(compared, remote, tmp_path):
    address, access = remote
    repository = compared
    shared = str(tmp_path / "shared.git")
    repository.run("git", "init", "--quiet", "--bare", "--initial-branch=main", shared)
    repository.run("git", "remote", "add", "origin", shared)
    repository.dvc("remote", "add", "--default", "team", address)
    repository.commit("Our DVC remote")
    allow(repository, access)
    # what this one leaves is in the cache
    repository.dvc(
        "exp", "run", "--quiet", "--temp", "--name", "shorter", "--set-param", "train.epochs=1"
    )
    repository.run("git", "push", "--quiet", "origin", "main")
    repository.dvc("push", "--quiet")
    repository.dvc("exp", "push", "--quiet", "origin", "shorter")

    other = Repository(tmp_path / "other")
    repository.run("git", "clone", "--quiet", shared, str(other.folder))
    allow(other, access)
    output = other.dvc("repro", "--pull", FASHION_MNIST_DIR="/nowhere")
    assert "Running stage" not in output
    assert other.read("models/model.keras") == repository.read("models/model.keras")
    assert other.results() == repository.results()

    other.dvc("exp", "pull", "--quiet", "origin", "shorter")
    assert "shorter" in other.dvc("exp", "show", "--csv")
    other.dvc("exp", "apply", "--quiet", "shorter")
    assert b"epochs: 1" in other.read("dvc.lock")

    stranger = Repository(tmp_path)  # in no clone at all
    access_given = [f"--remote-config={name}={value}" for name, value in access.items()]
    stranger.dvc("get", shared, "models/model.keras", "--out", "alone.keras", *access_given)
    assert stranger.read("alone.keras") == repository.read("models/model.keras")


def allow(repository, access: dict[str, str]) -> None:
    for name, value in access.items():
        repository.dvc("remote", "modify", "--local", "team", name, value)
