"""Experiments on this machine: several `dvc exp run --temp` at a time, in a clone.

In a clone, since DVC changes params.yaml for a moment and stashes what is not committed: killed in
that moment, it would leave your files so. DVC makes a temporary workspace for each experiment,
which sees the files that Git tracks and shares the cache; the result is a Git reference, fetched
from the clone. One training thread each is the most work per core.
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
from tools.git import experiment_ref, git, identity, local_clone

CLONES = Path(".dvc/tmp/experiments")
SINGLE_THREAD_ENV = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class LocalBackend(Backend):
    """A clone of the repository, with the changes that are not committed.

    It shares DVC's cache and settings, and is gone when the block ends.
    """

    capacity = cpu_count()
    serialize_starts = True  # DVC mixes up two that are started in the same moment

    def __enter__(self) -> "LocalBackend":
        CLONES.mkdir(parents=True, exist_ok=True)
        self.folder = Path(mkdtemp(prefix="clone-", dir=CLONES)).resolve()
        self.links: Path | None = None
        try:
            self._set_up_clone()
        except BaseException:  # Ctrl-C too
            self.__exit__()
            raise
        return self

    def _set_up_clone(self) -> None:
        local_clone(self.folder, with_changes=True)
        # DVC copies Git's settings to its workspaces, and writes ASCII alone: so no path in them,
        # and no name
        git("-C", str(self.folder), "remote", "remove", "origin")
        self.env = SINGLE_THREAD_ENV | identity()
        if (settings := Path(".dvc/config.local")).exists():
            shutil.copy(settings, self.folder / settings)
        use_cache(self._ascii_path(cache_folder()), self.folder)

    def _ascii_path(self, cache: Path) -> Path:
        """Return a path to the cache that DVC can write into the settings of its workspaces.

        It writes ASCII alone, so that a link stands in for any other.
        """
        if str(cache).isascii():
            return cache
        self.links = Path(mkdtemp(prefix="dvc-cache-"))
        link = self.links / "cache"
        link.symlink_to(cache, target_is_directory=True)
        return link

    def __exit__(self, *exception: object) -> None:
        for folder in filter(None, (self.links, self.folder)):
            shutil.rmtree(folder, ignore_errors=True)

    def start(self, spec: ExperimentSpec, log: Path) -> "LocalJob":
        # what the user has set stays as it is
        variables = {name: self.env[name] for name in self.env if name not in os.environ}
        # else an experiment fails when another, on a busy machine, holds DVC's lock for 3 seconds
        words = command("--wait-for-lock", "exp", "run", "--temp", *spec.arguments)
        with log.open("wb") as file:
            return LocalJob(
                subprocess.Popen(
                    words,
                    cwd=self.folder,
                    env=subprocess_env(**variables),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that it can be ended with all that it started
                )
            )

    def fetch(self, name: str) -> None:
        commit = git("-C", str(self.folder), "rev-parse", "HEAD").strip()
        reference = experiment_ref(commit, name)
        git("fetch", "--quiet", "--no-tags", str(self.folder), f"+{reference}:{reference}")


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
    """Delete the clones of a run that was killed: those in which no process works any more."""
    clones = list(CLONES.glob("clone-*"))
    folders = {process.info["cwd"] for process in psutil.process_iter(["cwd"])} if clones else set()
    for clone in clones:
        if not any(folder and Path(folder).is_relative_to(clone.resolve()) for folder in folders):
            shutil.rmtree(clone, ignore_errors=True)
