"""Run a stage in the test's process."""

from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path

from stages import run
from tests.support.commands import typed


def run_stage(folder: Path, stage: str, **variables: str) -> str:
    """Run a stage in a project's folder, by the code of this project; return what it printed."""
    output = StringIO()
    with (
        typed(folder, f"stages.{stage}", **variables),
        redirect_stdout(output),
        redirect_stderr(output),
        suppress(SystemExit),
    ):
        run(getattr(import_module(f"stages.{stage}"), stage))
    return output.getvalue()
