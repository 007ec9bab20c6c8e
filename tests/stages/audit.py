"""Run stages in one process, and write which of the project's files each opened and imported.

`python audit.py REPORT STAGE...` in a project's folder. The report is JSON: for each stage, lists
of paths by the names read, written and imported.
"""

import json
import os
import runpy
import sys
from pathlib import Path

project, opened = Path.cwd(), set()


def note(event: str, arguments: tuple) -> None:
    """Keep the path of each opened file, and whether it was opened for writing."""
    if event == "open" and isinstance(arguments[0], str | bytes):
        path, mode, flags = arguments
        for_writing = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        is_written = bool(set(mode or "") & set("wax+") or for_writing)
        # pathlib would open files itself
        opened.add((os.path.abspath(os.fsdecode(path)), is_written))  # noqa: PTH100


def inside(paths: list[str]) -> list[str]:
    """Return the paths that are in the project, relative to it."""
    found = [Path(path).relative_to(project) for path in paths if path.startswith(f"{project}/")]
    return sorted({str(path) for path in found if "__pycache__" not in path.parts})


def our_modules() -> dict[str, str]:
    """Return the file of each imported module of the project by the module's name."""
    files = {name: getattr(module, "__file__", None) for name, module in [*sys.modules.items()]}
    return {name: file for name, file in files.items() if inside([file or ""])}


def audit(stage: str) -> dict[str, list[str]]:
    """Run a stage, with the project's modules imported again, and return what it did."""
    for name in our_modules():
        del sys.modules[name]
    opened.clear()
    runpy.run_module(f"stages.{stage}", run_name="__main__")
    seen = sorted(opened | {(f"{project}/stages/{stage}.py", False)})  # may be read as bytecode
    read = [path for path, is_written in seen if not is_written and os.path.isfile(path)]  # noqa: PTH113
    return {
        "read": inside([path for path in read if not path.endswith(".py")]),
        "written": inside([path for path, is_written in seen if is_written]),
        "imported": inside([*our_modules().values(), *(x for x in read if x.endswith(".py"))]),
    }


sys.path.insert(0, str(project))
sys.addaudithook(note)
Path(sys.argv[1]).write_text(json.dumps({stage: audit(stage) for stage in sys.argv[2:]}))
