"""Run a stage and write down which of the project's files it opened and modules it imported.

`python audit.py STAGE REPORT` in a project's folder. The report is JSON: lists by the names read,
written, imported.
"""

import json
import os
import runpy
import sys
from pathlib import Path

stage, report = sys.argv[1], Path(sys.argv[2])
project = Path.cwd()
opened: set[tuple[str, bool]] = set()


def note(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        path, mode, flags = arguments
        for_writing = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        written = bool(set(mode or "") & set("wax+") or for_writing)
        # pathlib would open files itself
        opened.add((os.path.abspath(os.fsdecode(path)), written))  # noqa: PTH100


def inside(paths: list[str]) -> list[str]:
    found = [Path(path).relative_to(project) for path in paths if path.startswith(f"{project}/")]
    return sorted({str(path) for path in found if "__pycache__" not in path.parts})


sys.path.insert(0, str(project))
sys.addaudithook(note)
runpy.run_module(f"stages.{stage}", run_name="__main__")
seen = list(opened)
modules = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
found = {
    "read": [path for path, written in seen if not written and os.path.isfile(path)],  # noqa: PTH113
    "written": [path for path, written in seen if written],
    "imported": [*modules, str(project / f"stages/{stage}.py")],
}
report.write_text(json.dumps({name: inside(paths) for name, paths in found.items()}))
