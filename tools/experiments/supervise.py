"""Run a command, and kill it with all that it has started when standard input closes.

Ray kills a worker and the worker's children, but not their children, and nothing can tidy up. The
worker holds the other end of standard input, which closes with it. The fork lets the watching
process survive: it is no child of the worker.
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
