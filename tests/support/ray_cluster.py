"""A real Ray cluster of several nodes on this machine, for tests and for bench/fault_injection.py.

Each node has one CPU and its own home folder, and so its own cache.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.repository import Repository

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def end(node: psutil.Popen) -> None:
    """Kill a node with all that `ray start` has started, at once, like a power cut."""
    with suppress(psutil.NoSuchProcess):
        for victim in [*node.children(recursive=True), node]:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
    node.wait()


def publish(repository: Repository, folder: Path) -> None:
    """Commit all and push it to a new Git remote and a new DVC remote in `folder`."""
    repository.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder / "git"))
    repository.run("git", "remote", "add", "origin", str(folder / "git"))
    repository.dvc("remote", "add", "--default", "team", str(folder / "remote"))
    repository.commit("For the cluster")
    repository.run("git", "push", "--quiet", "origin", "main")


@contextmanager
def ray_node(home: Path, *options: str) -> Iterator[psutil.Popen]:
    """Run a node of one CPU with a new home folder; `options` of `ray start` are its place."""
    home.mkdir()
    log = home.with_name(f"{home.name}.log")
    common = ["--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    environment = os.environ | {"HOME": str(home), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    environment["RAY_health_check_period_ms"] = "500"  # so that a node's end is noticed sooner
    with log.open("w") as file:
        words = [RAY, "start", *options, *common]
        node = psutil.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None, log.read_text()
            time.sleep(0.1)
        yield node
    finally:
        end(node)


@contextmanager
def ray_cluster(folder: Path, nodes: int) -> Iterator[tuple[str, list[Path]]]:
    """Yield the address of a cluster and the home folders of its nodes, which are in `folder`."""
    port = free_port()
    address, homes = f"127.0.0.1:{port}", [folder / f"node-{i}" for i in range(nodes)]
    head = ["--head", f"--port={port}", "--include-dashboard=false"]
    with ExitStack() as stack:
        stack.enter_context(ray_node(homes[0], *head))
        for home in homes[1:]:
            stack.enter_context(ray_node(home, f"--address={address}"))
        yield address, homes
