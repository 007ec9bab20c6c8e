"""Experiments on a Ray cluster, in the place of this machine's cores.

`--ray ADDRESS` of experiments and sweep asks for it. A job clones the project from its Git remote
at the commit, works with the shared DVC remote and with a cache of its node's own, runs `dvc exp
run`, and pushes the experiment; this machine, the head, fetches it. The nodes need the project's
packages (requirements.txt, requirements-ray.txt), Git, and access to both remotes; they share no
file system. What runs on a node is in ray_node.py.
"""

import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashion.core.errors import UserError
from fashion.model.environment import PORTABLE
from tools.dvc import dvc
from tools.experiments import ray_node
from tools.experiments.backend import Backend, ExperimentSpec, Job
from tools.experiments.config import EXPERIMENTS, Resources
from tools.git import experiment_ref, git, head

MAX_RETRIES = 3  # of a job whose node has died
CONNECT_TIMEOUT = 10  # seconds
REMOTE = "origin"


class RayBackend(Backend):
    """The nodes of a Ray cluster.

    Raises UserError before anything starts where experiments could not run there.
    """

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

    def __enter__(self) -> "RayBackend":
        import ray

        try:
            ray.init(self.address, log_to_driver=False, logging_level="ERROR")
        # also: another version of Ray or Python there
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"no work with the Ray cluster at {self.address}: {error}") from None
        self._check_resources()
        ray.cloudpickle.register_pickle_by_value(ray_node)  # nodes have no copy of it yet
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        on_this_machine = ray.remote(num_cpus=0, scheduling_strategy=here)
        self.log_buffer = on_this_machine(ray_node.LogBuffer).remote()
        self.run_on_node = ray.remote(
            max_retries=MAX_RETRIES,
            retry_exceptions=False,
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
        )(ray_node.run_on_node)
        return self

    def __exit__(self, error: type | None, *_: object) -> None:
        import ray

        ray.shutdown()  # which ends the jobs that still run
        if self.fetched and error is None:
            # all files at once: it takes seconds a call
            dvc("exp", "pull", "--force", "--quiet", REMOTE, *self.fetched)

    def _check_resources(self) -> None:
        import ray

        cpus, gpus = self.resources.cpus, self.resources.gpus
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            return
        there = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes
        )
        ray.shutdown()
        raise UserError(
            f"no node of the cluster has the {cpus:g} CPUs and {gpus:g} GPUs"
            f" that {EXPERIMENTS} asks for a trial: ray. The nodes have: {there}"
        )

    @property
    def capacity(self) -> int:
        """How many jobs the cluster has room for at a time, at least one."""
        import ray

        found = ray.cluster_resources()
        wanted = {"CPU": self.resources.cpus, "GPU": self.resources.gpus}
        rooms = [int(found.get(kind, 0) // amount) for kind, amount in wanted.items() if amount]
        return max(1, min(rooms))

    def start(self, spec: ExperimentSpec, log: Path) -> "RayJob":
        log.write_bytes(b"")
        arithmetic = {name: os.environ[name] for name in PORTABLE if name in os.environ}
        reference = self.run_on_node.remote(
            spec.name, self.url, self.commit, spec.arguments, arithmetic, self.log_buffer
        )
        return RayJob(reference, self.log_buffer, spec.name, log)

    def fetch(self, name: str) -> None:
        """Take over what Git keeps of an experiment; the files in DVC's cache follow at the end."""
        reference = experiment_ref(self.commit, name)
        git("fetch", "--quiet", "--no-tags", REMOTE, f"+{reference}:{reference}")
        self.fetched.append(name)


class RayJob(Job):
    """A task of the cluster, whose output comes through a LogBuffer."""

    def __init__(self, reference: Any, log_buffer: Any, name: str, log: Path):
        self.reference, self.log_buffer, self.name, self.log = reference, log_buffer, name, log
        self.status: int | None = None

    def poll(self) -> int | None:
        import ray

        if self.status is None:
            ended = bool(ray.wait([self.reference], timeout=0)[0])
            self._append(*ray.get(self.log_buffer.drain.remote(self.name)))
            if ended:
                try:
                    self.status = ray.get(self.reference)
                except ray.exceptions.RayError as error:
                    self._append(f"{type(error).__name__}: {str(error).splitlines()[0]}\n")
                    self.status = 1
        return self.status

    def _append(self, *lines: str) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def interrupt(self) -> None:
        self.kill()

    def kill(self) -> None:
        import ray

        ray.cancel(self.reference, force=True)


def check_address(address: str) -> None:
    """Raise UserError where nothing answers at HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error})."
            " `ray start --head` starts one and prints its address, HOST:PORT"
        ) from None


def check_remotes() -> str:
    """Return the address of the Git remote.

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
