"""What runs on a node of a Ray cluster, which has nothing of the project yet.

Ray sends this module there as it is here, so it imports nothing of the project.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import psutil

# sent along, as the module is
SUPERVISE = Path(__file__).with_name("supervise.py").read_text(encoding="utf-8")
NO_GC = "--config=gc.auto=0"  # as in tools/git.py
PUSHES = 3  # at most: Git refuses one where another run pushes the same experiment at the moment


class LogBuffer:
    """What jobs have printed and nobody has read yet, by job; an actor of the cluster."""

    def __init__(self):
        self.lines: dict[str, list[str]] = {}

    def add(self, name: str, line: str) -> None:
        self.lines.setdefault(name, []).append(line)

    def drain(self, name: str) -> list[str]:
        return self.lines.pop(name, [])


def run_on_node(
    name: str,
    url: str,
    commit: str,
    experiment: list[str],
    variables: dict[str, str],
    log_buffer: Any,
) -> int:
    """Clone `url` at `commit`, run the experiment, push it; return the exit status.

    `experiment` are arguments of `dvc exp run`, `variables` the head's choice of arithmetic, and
    `log_buffer` the actor that takes the output, line by line.
    """
    import ray  # not installed where no cluster is used

    remove_stale_folders()
    cache = Path.home() / ".cache/dvc-nodes" / url.strip("/").replace("/", "-").replace(":", "-")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = os.environ | variables | {"PATH": path}
    with TemporaryDirectory(prefix=f"trial-{os.getpid()}-") as folder:

        def call(*words: str) -> int:
            with subprocess.Popen(
                [sys.executable, "-c", SUPERVISE, *words],
                cwd=folder,
                env=env,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process:
                added = None
                for line in process.stdout:
                    added = log_buffer.add.remote(name, line)
            if added:
                ray.get(added)  # so that the last line is there when the job's end is seen
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
        if status := call(*dvc, "exp", "run", "--pull", *experiment):
            return status
        for _ in range(PUSHES):
            if not (status := call(*dvc, "exp", "push", "--force", "origin", name)):
                break
        return status


def remove_stale_folders() -> None:
    """Delete the clones of jobs that were killed."""
    for folder in Path(gettempdir()).glob("trial-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])):
            shutil.rmtree(folder, ignore_errors=True)
