"""Experiments on this machine: several `dvc exp run` at a time, each in a clone of its own.

In a clone, since DVC changes params.yaml and stashes what is not committed: killed then, it would
leave your files so. Of its own, since a DVC that has ended its experiment takes up whatever another
has stashed beside it. A clone has the files that Git tracks and shares the cache; the result is a
Git reference, fetched from it. One training thread each is the most work per core.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from tempfile import mkdtemp

import psutil
from joblib import cpu_count

from tools.dvc import command, subprocess_env, use_cache
from tools.experiments.backend import Backend, ExperimentSpec, Job
from tools.fsck import cache_folder
from tools.git import experiment_ref, git, head, identity, local_clone, uncommitted_changes

CLONES = Path(".dvc/tmp/experiments")
SINGLE_THREAD_ENV = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class LocalBackend(Backend):
    """Clones of the repository as it is when the block begins, changes not committed included.

    They share DVC's cache and settings. Each has the data, so one is gone when its experiment has
    ended, and all when the block ends.
    """

    capacity = cpu_count()

    def __enter__(self) -> "LocalBackend":
        self.commit, self.patch = head(), uncommitted_changes()
        self.env = SINGLE_THREAD_ENV | identity()
        CLONES.mkdir(parents=True, exist_ok=True)
        self.folder = Path(mkdtemp(prefix="clones-", dir=CLONES)).resolve()
        return self

    def _set_up_clone(self, clone: Path) -> None:
        local_clone(clone, self.commit, self.patch)
        if (settings := Path(".dvc/config.local")).exists():
            shutil.copy(settings, clone / settings)
        use_cache(cache_folder(), clone)

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, spec: ExperimentSpec, log: Path) -> "LocalJob":
        clone = self.folder / spec.name
        self._set_up_clone(clone)
        # what the user has set stays as it is
        variables = {name: self.env[name] for name in self.env if name not in os.environ}
        words = command("exp", "run", *spec.arguments)
        with log.open("wb") as file:
            return LocalJob(
                subprocess.Popen(
                    words,
                    cwd=clone,
                    env=subprocess_env(**variables),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that it can be ended with all that it started
                )
            )

    def fetch(self, name: str) -> None:
        reference = experiment_ref(self.commit, name)
        clone = str(self.folder / name)
        git("fetch", "--quiet", "--no-tags", clone, f"+{reference}:{reference}")

    def discard(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)


class LocalJob(Job):
    """A process, which leads a session of its own."""

    def __init__(self, process: subprocess.Popen):
        self.process = process

    def poll(self) -> int | None:
        return self.process.poll()

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def remove_stale_clones() -> None:
    """Delete the clones of runs that were killed: those in which no process works any more."""
    clones = list(CLONES.glob("clones-*"))
    folders = {process.info["cwd"] for process in psutil.process_iter(["cwd"])} if clones else set()
    for clone in clones:
        if not any(folder and Path(folder).is_relative_to(clone.resolve()) for folder in folders):
            shutil.rmtree(clone, ignore_errors=True)
