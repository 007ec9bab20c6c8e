"""Run a command, and end it with all that it started when standard input closes.

Ray kills a worker, and with it its own children but not theirs, without a chance to tidy up. The
worker holds the other end of standard input, so that closes then. Hence the fork: this process is
killed with the worker, and the one that watches is not its child any more.
"""

import os
import signal
import subprocess
import sys
import threading


def kill_when_input_closes() -> None:
    if not os.read(0, 1):
        os.killpg(0, signal.SIGKILL)


if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]) % 256)
os.setsid()
threading.Thread(target=kill_when_input_closes, daemon=True).start()
os._exit(subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False).returncode % 256)
