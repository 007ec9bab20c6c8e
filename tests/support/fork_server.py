"""Run commands in forks of a process that has imported slow packages.

A test's command then starts in milliseconds. Modules of the project are imported from the folder in
which the command runs.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
import threading
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from unittest.mock import patch

IMPORTED = ["dvc.cli.parser", "dvc.repo", "dvc.api", "dvc.cachemgr", "dvc.data_cloud", "dvc.dirs"]
IMPORTED += ["dvc.repo.experiments.queue.celery", "dvc_studio_client.post_live_metrics"]
IMPORTED += ["dvc_data.hashfile.build", "dvc_render", "configobj", "dulwich.ignore", "pygit2"]
IMPORTED += ["dulwich.porcelain", "dulwich.stash", "dulwich.worktree", "networkx", "optuna"]
IMPORTED += ["filelock", "flatten_dict", "jinja2", "joblib", "matplotlib.figure", "pandas"]
IMPORTED += ["pydantic.types", "rich.live", "rich.table", "ruamel.yaml", "scipy.stats", "pytest"]
OURS = {"fashion", "stages", "tools", "bench", "tests"}
READ_AT_START = ("PYTHON", "LANG", "LC_", "HOME", "XDG_", "MPL")  # by Python or by the packages
PROJECT = str(Path(__file__).parents[2])
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(IMPORTED)


def starts_alike(env: dict[str, str]) -> bool:
    """Return whether a fork behaves like a new process with these variables."""
    names = [name for name in {*env, *os.environ} if name.startswith(READ_AT_START)]
    return all(env.get(name) == os.environ.get(name) for name in names)


def run_forked(words: list[str], folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Run `python -m` with these words; return the exit status and the output, errors included."""
    with patch.dict(os.environ, OPENBLAS_NUM_THREADS="1"):  # only a single thread can be forked
        ensure_running()
    reader, writer = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_run, args=(words, folder, env, writer))
    process.start()
    writer.close()
    with reader, os.fdopen(reader.fileno(), closefd=False) as output:
        text = output.read()
    process.join()
    return process.exitcode, text


def _run(words: list[str], folder: Path, env: dict[str, str], writer: Connection) -> None:
    for stream in (1, 2):
        os.dup2(writer.fileno(), stream)
    writer.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv, sys.path = words, [str(folder), *(path for path in sys.path if path != PROJECT)]
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:  # which multiprocessing leaves out
        threading._shutdown()
        atexit._run_exitfuncs()
