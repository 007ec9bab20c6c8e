"""Does dvc.yaml still say of the stages what the baseline's said?

A stage that is frozen, or that no longer declares what it reads, is not run again when it should.
"""

import ast
import re
from pathlib import Path
from typing import Any

from fashion.strict_yaml import read_yaml
from tools.dvc import DVC_YAML
from tools.experiments.up_to_date import PIPELINE
from tools.git import git, yaml_at

KINDS = ("deps", "params", "outs", "metrics", "plots")


def find_refusals(baseline: str) -> list[str]:
    """Return a sentence for whatever in dvc.yaml or in Git's index would hide a change."""
    before, now = yaml_at(baseline, DVC_YAML), read_yaml(DVC_YAML)
    found = [
        f"{path} is code of the pipeline that Git does not track. `git add` it, or remove it"
        for path in _untracked_code()
    ]
    for name, old in before["stages"].items():
        new = now["stages"].get(name)
        if new is None:
            if Path(f"stages/{name}.py").exists():
                found.append(f"{DVC_YAML} has no stage {name} any more, whose code is still here")
            continue
        lost = _entries(old) - _entries(new)
        code = _code_of(name) if lost else ""
        found += [
            f"stage {name} no longer declares {entry}, and its code still reads or writes it"
            for entry in sorted(lost)
            if _names(code, entry)
        ]
    for name, stage in now["stages"].items():
        if stage.get("frozen"):
            found.append(f"stage {name} is frozen, so its results are of whatever it was before")
    found += [
        f"{path} is declared as metrics outside of the stages, so nothing makes it"
        for path in sorted(_paths(now.get("metrics")) - _paths(before.get("metrics")))
    ]
    return found


def _entries(stage: dict[str, Any]) -> set[str]:
    return set().union(*(_paths(stage.get(kind)) for kind in KINDS))


def _paths(entries: list | None) -> set[str]:
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries or []}


def _names(code: str, entry: str) -> bool:
    """Tell whether code names a module by its path, another file by its name, or a param."""
    name = entry if entry.endswith(".py") else Path(entry).name
    return bool(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", code))


def _untracked_code() -> list[str]:
    """Return files that Git does not track, those included that it is told to ignore."""
    others = git("ls-files", "--others", "-z", "--", *PIPELINE).split("\0")
    return [path for path in others if path and "__pycache__" not in path]


def _code_of(stage: str) -> str:
    """Return the text of a stage's module and of all modules of this repository that it imports.

    Their paths stand at the front.
    """
    texts: dict[str, str] = {}
    pending = [f"stages/{stage}.py"]
    while pending:
        path = pending.pop()
        if path in texts or not Path(path).is_file():
            continue
        texts[path] = Path(path).read_text(encoding="utf-8")
        try:
            tree = ast.parse(texts[path])
        except SyntaxError:  # it can't run either
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            pending += [f"{module.replace('.', '/')}.py" for module in modules if module]
    return "\n".join([*texts, *texts.values()])
