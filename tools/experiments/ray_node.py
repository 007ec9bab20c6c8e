"""Run an experiment on a node of a Ray cluster.

Ray sends this module to the node, which has nothing of the project yet. So it imports nothing of
the project.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import psutil

# sent with this module
SUPERVISE = Path(__file__).with_name("supervise.py").read_text(encoding="utf-8")
# Without --no-local, Git would copy the objects of all experiments from a remote that is a folder.
# Empty folders of recorded runs are removed as tools/fsck.py explains.
# The push is retried, since Git refuses it while another run pushes the same experiment.
SCRIPT = """
export DVC_SITE_CACHE_DIR="$PWD/.dvc/tmp/site" DVC_EXP_AUTO_PUSH=false SHELL=/bin/sh
export GIT_ATTR_NOSYSTEM=1
git clone --no-local $CLONE_OPTIONS "$URL" .
git checkout --quiet --detach "$COMMIT"
printf '[cache]\\n    dir = %s\\n' "$CACHE" > .dvc/config.local
find "$CACHE/runs" -mindepth 2 -type d -empty -delete 2>/dev/null || true
python -m dvc exp run --pull "$@"
for push in 1 2 3; do python -m dvc exp push --force origin "$NAME" && exit; done
exit 1
"""


def run_on_node(
    name: str, url: str, commit: str, experiment: list[str], clone_options: str
) -> Iterator[str | int]:
    """Clone `url` at `commit`, run and push the experiment. Yield each line, then the exit status.

    `experiment` are arguments of `dvc exp run`, `clone_options` those of `git clone`.
    """
    remove_stale_folders()
    cache = Path.home() / ".cache/dvc-nodes" / url.strip("/").replace("/", "-").replace(":", "-")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    inputs = {"NAME": name, "URL": url, "COMMIT": commit, "CACHE": str(cache), "PATH": path}
    inputs["CLONE_OPTIONS"] = clone_options
    words = [sys.executable, "-c", SUPERVISE, "sh", "-e", "-c", SCRIPT, "sh", *experiment]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with (
        TemporaryDirectory(prefix=f"trial-{os.getpid()}-") as folder,
        subprocess.Popen(words, cwd=folder, env=os.environ | inputs, text=True, **pipes) as process,
    ):
        for line in process.stdout:  # noqa: UP028, since Ray sends values into generators
            yield line
    yield process.returncode


def remove_stale_folders() -> None:
    """Delete the clones of killed jobs."""
    for folder in Path(gettempdir()).glob("trial-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])):
            shutil.rmtree(folder, ignore_errors=True)
