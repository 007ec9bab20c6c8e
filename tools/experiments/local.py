"""Run experiments on this machine: several `dvc exp run` at a time, each in its own clone.

DVC changes params.yaml and stashes uncommitted changes, so a kill in the workspace would leave your
files modified; and in a shared clone, a finishing DVC process pops another one's stash. A clone has
the files that Git tracks and shares DVC's cache and settings. The result is a Git reference, which
is fetched from the clone. Each experiment trains with one thread (a convolutional network with
two), which gives the most work per core.
"""

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

from joblib import cpu_count

from fashion.core.environment import THREADS
from tools.dvc import command, experiment_ref, share_cache
from tools.experiments.backend import Backend, ExperimentSpec, Job
from tools.git import commit_workspace, git, head, identity, temporary_clone
from tools.process import start


class LocalBackend(Backend):
    """Clones of the workspace as it is now, with its uncommitted changes."""

    capacity = cpu_count()

    def __init__(self):
        self.commit, self.workspace = head(), commit_workspace()
        self.env = identity() | os.environ | {THREADS: "1"}

    def start(self, spec: ExperimentSpec) -> "LocalJob":
        with ExitStack() as stack:
            clone = stack.enter_context(temporary_clone("experiments", self.workspace))
            git("-C", str(clone), "reset", "--quiet", self.commit)  # DVC keeps experiments with it
            share_cache(clone)
            words, log = command("exp", "run", *spec.arguments), spec.log.open("wb")
            output = {"stdout": stack.enter_context(log), "stderr": subprocess.STDOUT}
            env = self.env | {"DVC_SITE_CACHE_DIR": str(clone / ".dvc/tmp/site")}
            # in a new session, so that all its processes can be ended together
            process = start(words, clone, env, start_new_session=True, **output)
            return LocalJob(process, clone, experiment_ref(self.commit, spec.name), stack.pop_all())


class LocalJob(Job):
    """The leading process of a session, and the clone in which it works."""

    def __init__(self, process: subprocess.Popen, clone: Path, reference: str, stack: ExitStack):
        self.process, self.clone, self.reference = process, clone, reference
        self._stack = stack

    def poll(self) -> int | None:
        return self.process.poll()

    def end(self, at_once: bool) -> None:
        os.killpg(self.process.pid, signal.SIGKILL if at_once else signal.SIGINT)
        if at_once:
            self.process.wait()

    def close(self, keep: bool) -> None:
        if keep:
            words = ("--quiet", "--no-tags", str(self.clone))
            git("fetch", *words, f"+{self.reference}:{self.reference}")
        self._stack.close()
