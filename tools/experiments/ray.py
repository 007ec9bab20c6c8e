"""Run experiments on a Ray cluster instead of this machine: `--ray ADDRESS`.

A job clones the project from its Git remote at the commit, uses the shared DVC remote and its
node's own cache, runs `dvc exp run`, and pushes the experiment; this machine, the head, fetches it.
The nodes need the project's packages (requirements.txt, requirements/ray.txt), Git, and access to
both remotes, but no shared file system. ray_node.py is what runs on a node.
"""

import socket
from importlib.util import find_spec
from typing import Any

from fashion.core.errors import UserError
from tools.dvc import dvc, experiment_ref
from tools.experiments import ray_node
from tools.experiments.backend import Backend, ExperimentSpec, Job
from tools.experiments.config import EXPERIMENTS, Resources
from tools.git import CLONE_OPTIONS, commit_workspace, git, head

MAX_RETRIES = 3  # of a job whose node has died
CONNECT_TIMEOUT = 10  # seconds
REMOTE = "origin"
# How HTTP/2, which Ray speaks, begins: RFC 9113, section 3.4, with an empty frame of settings
HELLO, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"\4"


class RayBackend(Backend):
    """The nodes of a Ray cluster.

    Raises UserError if experiments could not run there, before anything starts.
    """

    def __init__(self, address: str, resources: Resources):
        if not find_spec("ray"):
            raise UserError(
                "Ray is not installed. `pip install -r requirements/ray.txt`,"
                " here and on every node"
            )
        self.address, self.wanted = address, {"CPU": resources.cpus, "GPU": resources.gpus}
        self.url = check_remotes()
        self.commit = self.workspace = head()
        self.completed: list[str] = []
        check_address(address)

    def __enter__(self) -> "RayBackend":
        import ray

        try:
            ray.init(self.address, log_to_driver=False, logging_level="ERROR")
        except (OSError, RuntimeError, ValueError) as error:  # another version of Ray or Python too
            raise UserError(f"cannot use the Ray cluster at {self.address}: {error}") from None
        self._check_resources()
        dvc("push", "--quiet")  # for the nodes
        ray.cloudpickle.register_pickle_by_value(ray_node)  # nodes have no copy of it yet
        cpus, gpus = self.wanted.values()
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=MAX_RETRIES)
        self.run_on_node = remote(ray_node.run_on_node)
        return self

    def __exit__(self, error: type | None, *_: object) -> None:
        import ray

        ray.shutdown()  # ends the jobs that still run
        if self.completed and error is None:
            # all together, since each call takes seconds
            dvc("exp", "pull", "--force", "--quiet", REMOTE, *self.completed)

    @property
    def capacity(self) -> int:
        """Return how many jobs fit on the nodes at a time, at least one."""
        return max(1, sum(map(self._room, nodes())))

    def _room(self, node: dict[str, float]) -> int:
        wanted = [(kind, amount) for kind, amount in self.wanted.items() if amount]
        return min(int(node.get(kind, 0) // amount) for kind, amount in wanted)

    def _check_resources(self) -> None:
        if any(map(self._room, nodes())):
            return
        form = "{CPU:g} CPUs and {GPU:g} GPUs"
        sizes = [form.format(**{"CPU": 0, "GPU": 0} | node) for node in nodes()]
        raise UserError(
            f"no node of the cluster has the {form.format(**self.wanted)} that {EXPERIMENTS} asks"
            f" for (ray: cpus, gpus). The nodes have: {'; '.join(sizes)}"
        )

    def start(self, spec: ExperimentSpec) -> "RayJob":
        options = " ".join(CLONE_OPTIONS)
        words = (spec.name, self.url, self.commit, spec.arguments, options)
        return RayJob(self, spec, self.run_on_node.remote(*words))


class RayJob(Job):
    """A task of the cluster. `stream` yields the lines that it prints, then its exit status."""

    def __init__(self, backend: RayBackend, spec: ExperimentSpec, stream: Any):
        self.backend, self.name, self.stream = backend, spec.name, stream
        self.status: int | None = None
        self.log = spec.log.open("w", encoding="utf-8", buffering=1)  # a line at a time

    def poll(self) -> int | None:
        import ray

        while self.status is None and ray.wait([self.stream], timeout=0)[0]:
            try:
                item = ray.get(next(self.stream))
            except StopIteration:  # the task was cancelled
                item = 1
            except ray.exceptions.RayError as error:
                item, reason = 1, str(error).partition("\n")[0]
                self.log.write(f"{type(error).__name__}: {reason}\n")
            if isinstance(item, int):
                self.status = item
            else:
                self.log.write(item)
        return self.status

    def end(self, at_once: bool) -> None:
        import ray

        ray.cancel(self.stream, force=True)

    def close(self, keep: bool) -> None:
        """If `keep`, fetch the experiment's Git reference. DVC's files follow at the end."""
        self.log.close()
        if keep:
            reference = experiment_ref(self.backend.commit, self.name)
            git("fetch", "--quiet", "--no-tags", REMOTE, f"+{reference}:{reference}")
            self.backend.completed.append(self.name)


def nodes() -> list[dict[str, float]]:
    """Return the resources of each node of the cluster, like {"CPU": 8.0, "GPU": 1.0}."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_address(address: str) -> None:
    """Raise UserError if no Ray answers at HOST:PORT, where Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), CONNECT_TIMEOUT) as connection:
            connection.sendall(HELLO)
            if connection.recv(4)[3:] != SETTINGS:
                raise ValueError("another server does")
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error})."
            " `ray start --head` starts one and prints its address, HOST:PORT"
        ) from None


def check_remotes() -> str:
    """Return the address of the Git remote.

    Raises UserError if nodes could not get this commit or give results.
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
    if commit_workspace() != commit:
        raise UserError(
            "there are uncommitted changes, which the nodes would not see. Commit and push them"
        )
    from dvc.config import Config  # slow, so only where it is needed

    if not Config(".dvc").load_one("repo").get("core", {}).get("remote"):
        raise UserError(
            ".dvc/config names no default DVC remote,"
            " through which the nodes share data and results."
            " `dvc remote add --default NAME ADDRESS`, then commit and push"
        )
    return url
