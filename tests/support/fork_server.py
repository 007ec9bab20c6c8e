"""A process that has imported other people's packages, and forks for each command of a test.

So a command does not spend most of its time on imports. The project's own modules are those of the
folder in which it runs.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from functools import cache
from pathlib import Path

IMPORTED = ["dvc.cli.parser", "dvc.repo", "dvc.api", "dvc.cachemgr", "dvc.data_cloud", "dvc.dirs"]
IMPORTED += ["dvc.repo.experiments.queue.celery", "dvc_studio_client.post_live_metrics"]
IMPORTED += ["dvc_data.hashfile.build", "dvc_render", "configobj", "dulwich.ignore", "pygit2"]
IMPORTED += ["dulwich.porcelain", "dulwich.stash", "dulwich.worktree", "networkx", "optuna"]
IMPORTED += ["filelock", "flatten_dict", "jinja2", "joblib", "matplotlib.figure", "pandas"]
IMPORTED += ["pydantic.types", "rich.live", "rich.table", "ruamel.yaml", "scipy.stats"]
READ_AT_START = ("PYTHON", "LANG", "LC_", "HOME", "XDG_", "MPL")  # by Python, or as it imports


class ForkServer:
    """Runs commands, one at a time, for one thread. It ends with this process."""

    def __init__(self):
        self.connection, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, __file__, str(theirs.fileno())]
            env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # forking wants a single thread
            pipes = {"pass_fds": [theirs.fileno()], "stdout": subprocess.DEVNULL}
            self.process = subprocess.Popen(words, env=env, **pipes)
        atexit.register(self.end)

    def end(self) -> None:
        self.connection.close()
        self.process.wait()

    def run(self, words: list[str], folder: Path, env: dict[str, str]) -> tuple[int, str]:
        """Do `python -m` with these words; return exit status and output, errors included."""
        request = {"words": words, "folder": str(folder), "env": env}
        output, inlet = os.pipe()
        with os.fdopen(inlet, "wb"):
            message = f"{json.dumps(request)}\n".encode()
            sent = socket.send_fds(self.connection, [message], [inlet])
            self.connection.sendall(message[sent:])
        with os.fdopen(output) as file:
            text = file.read()
        return int(self.connection.recv(99)), text


def fork_server() -> ForkServer:
    """Return the server of this thread."""
    return _server_of(threading.get_ident())


@cache
def _server_of(_thread: int) -> ForkServer:
    return ForkServer()


def starts_alike(env: dict[str, str]) -> bool:
    """Whether a process with these variables would start as one with those of this process."""
    names = [name for name in {*env, *os.environ} if name.startswith(READ_AT_START)]
    return all(env.get(name) == os.environ.get(name) for name in names)


def next_request(connection: socket.socket) -> dict:
    """Fork for each request; return it in the new process, whose output goes where it says."""
    while True:
        message, inlets, *_ = socket.recv_fds(connection, 2**16, 1)
        if not message:
            os._exit(0)
        while not message.endswith(b"\n"):
            message += connection.recv(2**16)
        if not (child := os.fork()):
            connection.close()
            for stream in (1, 2):
                os.dup2(inlets[0], stream)
            os.close(inlets[0])
            return json.loads(message)
        os.close(inlets[0])
        connection.sendall(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def run(words: list[str]) -> int:
    """Do `python -m` with these words; return the exit status, when all that it began has ended."""
    sys.argv, status = words, 0
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):  # a message
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status % 256


if __name__ == "__main__":
    del sys.path[0]  # this folder
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # what is there already would otherwise be copied as it is looked through
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    request = next_request(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, on_interrupt)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path.insert(0, request["folder"])
    os._exit(run(request["words"]))  # to take all modules apart would take as long as a command
