"""Experiments on a Ray cluster, in the place of this machine's cores.

`--ray ADDRESS` of experiments and sweep asks for it. A task clones the project from its Git remote
at the commit, works with the shared DVC remote and with a cache of its node's own, runs `dvc exp
run`, and pushes the experiment; this machine, the head, fetches it. The nodes need the project's
packages (requirements.txt, requirements-ray.txt), Git, and access to both remotes; they share no
file system.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import psutil

from fashion.environment import PORTABLE
from fashion.errors import UserError
from tools.config import EXPERIMENTS, Resources
from tools.dvc import dvc
from tools.git import NO_GC, git, head

RETRIES = 3  # of a trial whose node has died
PATIENCE = 10  # seconds to answer a connection
REMOTE = "origin"

# Runs a command in a session of its own, and ends all of it when the process that holds the other
# end of standard input is gone: Ray kills a worker, and with it its own children but not theirs,
# without a chance to tidy up. Hence the fork.
SUPERVISED = """
import os, signal, subprocess, sys, threading
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]) % 256)
os.setsid()
threading.Thread(target=lambda: os.read(0, 1) or os.killpg(0, signal.SIGKILL), daemon=True).start()
os._exit(subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode % 256)
"""


class Cluster:
    """Where experiments run: the tasks of a Ray cluster.

    Raises UserError before anything starts where they could not.
    """

    in_turn = False

    def __init__(self, address: str, resources: Resources):
        if not find_spec("ray"):
            raise UserError(
                "Ray is not installed. `pip install -r requirements-ray.txt`,"
                " here and on every node"
            )
        self.address, self.resources = address, resources
        self.url, self.commit = check_remotes(), head()
        self.fetched: list[str] = []
        check_address(address)

    def __enter__(self) -> "Cluster":
        import ray

        try:
            ray.init(self.address, log_to_driver=False, logging_level="ERROR")
        # also: another version of Ray or Python there
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"no work with the Ray cluster at {self.address}: {error}") from None
        self.check_resources()
        # nodes have no copy of this module yet
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        limits = {"num_cpus": self.resources.cpus, "num_gpus": self.resources.gpus}
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.lines = ray.remote(num_cpus=0, scheduling_strategy=here)(Lines).remote()
        self.task = ray.remote(max_retries=RETRIES, retry_exceptions=False, **limits)(run_on_node)
        return self

    def __exit__(self, error: type | None, *_) -> None:
        import ray

        ray.shutdown()  # which ends the tasks that still run
        if self.fetched and error is None:
            # all files at once: it takes seconds a call
            dvc("exp", "pull", "--force", "--quiet", REMOTE, *self.fetched)

    def check_resources(self) -> None:
        import ray

        wanted = {"CPU": self.resources.cpus, "GPU": self.resources.gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(
            all(node.get(kind, 0) >= amount for kind, amount in wanted.items()) for node in nodes
        ):
            there = "; ".join(
                f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes
            )
            ray.shutdown()
            raise UserError(
                f"no node of the cluster has the {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs"
                f" that {EXPERIMENTS} asks for a trial: ray. The nodes have: {there}"
            )

    @property
    def room(self) -> int:
        """How many trials the cluster has room for at a time, at least one."""
        import ray

        found = ray.cluster_resources()
        wanted = {"CPU": self.resources.cpus, "GPU": self.resources.gpus}
        return max(
            1, *(int(found.get(kind, 0) // amount) for kind, amount in wanted.items() if amount)
        )

    def start(self, name: str, settings: list[str], log: Path) -> "Task":
        log.write_bytes(b"")
        words = ["exp", "run", "--pull", "--name", name, *settings]
        chosen = {variable: os.environ[variable] for variable in PORTABLE if variable in os.environ}
        return Task(
            self.task.remote(name, self.url, self.commit, words, chosen, self.lines),
            self.lines,
            name,
            log,
        )

    def fetch(self, name: str) -> None:
        """Take an experiment over, in the place of an older one of its name.

        The files in DVC's cache follow at the end.
        """
        reference = f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/{name}"
        git("fetch", "--quiet", "--no-tags", REMOTE, f"+{reference}:{reference}")
        self.fetched.append(name)

    @staticmethod
    def stop(task: "Task", number: signal.Signals) -> None:
        task.cancel()


class Task:
    """A trial under way, watched like a process."""

    def __init__(self, reference: Any, lines: Any, name: str, log: Path):
        self.reference, self.lines, self.name, self.log = reference, lines, name, log
        self.returncode: int | None = None

    def poll(self) -> int | None:
        import ray

        if self.returncode is None:
            ended = bool(ray.wait([self.reference], timeout=0)[0])
            with self.log.open("a", encoding="utf-8") as file:
                file.writelines(ray.get(self.lines.take.remote(self.name)))
            if ended:
                self.returncode = self._result()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        return self.poll()

    def cancel(self) -> None:
        import ray

        ray.cancel(self.reference, force=True)

    def _result(self) -> int:
        import ray

        try:
            return ray.get(self.reference)
        except ray.exceptions.RayError as error:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{type(error).__name__}: {str(error).splitlines()[0]}\n")
            return 1


class Lines:
    """What the tasks have printed and nobody has read yet; an actor of the cluster."""

    def __init__(self):
        self.kept: dict[str, list[str]] = {}

    def add(self, name: str, line: str) -> None:
        self.kept.setdefault(name, []).append(line)

    def take(self, name: str) -> list[str]:
        return self.kept.pop(name, [])


def run_on_node(
    name: str, url: str, commit: str, experiment: list[str], variables: dict[str, str], lines: Any
) -> int:
    """Clone, run, push; return the exit status.

    Runs on a node, which has nothing of the project yet. `variables` are the head's choice of
    arithmetic.
    """
    remove_abandoned_folders()
    cache = Path.home() / ".cache/dvc-nodes" / url.strip("/").replace("/", "-").replace(":", "-")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    with TemporaryDirectory(prefix=f"trial-{os.getpid()}-") as folder:

        def call(*step: str) -> int:
            words = [sys.executable, "-c", SUPERVISED, *step]
            pipes = {
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.STDOUT,
            }
            env = os.environ | variables | {"PATH": path}
            with subprocess.Popen(words, cwd=folder, env=env, text=True, **pipes) as process:
                for line in process.stdout:
                    lines.add.remote(name, line)
            return process.returncode

        # of a folder, Git would take over the objects of all experiments
        few_objects = ["--no-local", "--no-tags"]
        if status := call("git", "clone", "--quiet", *few_objects, NO_GC, url, "."):
            return status
        if status := call("git", "checkout", "--quiet", "--detach", commit):
            return status
        Path(folder, ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n")
        dvc = (sys.executable, "-m", "dvc")
        # begun at training, an experiment pulls nothing that comes before by itself
        if "--downstream" in experiment and (status := call(*dvc, "pull", "--quiet", "prepare")):
            return status
        run = call(*dvc, *experiment)
        return run or call(*dvc, "exp", "push", "--force", REMOTE, name)


def remove_abandoned_folders() -> None:
    """Delete the clones of tasks that were killed."""
    for folder in Path(gettempdir()).glob("trial-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])):
            shutil.rmtree(folder, ignore_errors=True)


def check_address(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error})."
            " `ray start --head` starts one and prints its address, HOST:PORT"
        ) from None


def check_remotes() -> str:
    """The address of the Git remote.

    Raises UserError where nodes could not get this commit or give results.
    """
    try:
        url = git("remote", "get-url", REMOTE).strip()
    except UserError:
        raise UserError(
            f"there is no Git remote {REMOTE}, from which the nodes would clone."
            f" `git remote add {REMOTE} URL`"
        ) from None
    git("fetch", "--quiet", REMOTE)
    commit = head()
    if not git("branch", "--remotes", "--contains", commit).strip():
        raise UserError(
            f"{REMOTE} does not have commit {commit[:7]}, which the nodes would run. `git push` it"
        )
    if git("diff", "--name-only", "HEAD").strip():
        raise UserError(
            "there are changes that are not committed, which the nodes would not see."
            " Commit and push them"
        )
    from dvc.config import Config  # slow, so only where it is needed

    if not Config(".dvc").load_one("repo").get("core", {}).get("remote"):
        raise UserError(
            ".dvc/config names no default DVC remote,"
            " through which the nodes share data and results."
            " `dvc remote add --default NAME ADDRESS`, then commit and push"
        )
    return url
