"""List what of a change edits the gate itself, for the person who reviews it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from flatten_dict import flatten

from fashion.core.errors import UserError
from tools.dvc import lock_at, output_hashes
from tools.gate.config import GATE
from tools.gate.judge import Judgement
from tools.gate.noise import NOISE, noise_at
from tools.gate.score import ROUNDING
from tools.git import git, git_bytes, yaml_at

# what decides how a change is judged
FOLDERS = ("tools/", ".ci/", ".github/", ".dvc/", "requirements")
FILES = ("Makefile", "dvc.yaml", ".dvcignore", ".gitattributes", ".gitmodules")
BYTECODE = (".pyc", ".pyo", ".so", ".pth")
LINK, SUBMODULE = "120000", "160000"  # modes in a Git tree


class ChangedFile(NamedTuple):
    path: str
    mode: str  # "000000" where the file is deleted
    blob: str


def is_unchanged(baseline: str, candidate: str) -> bool:
    """Whether two commits are equal outside of docs and README."""
    return not any(
        not file.path.startswith("docs/") and not file.path.startswith("README")
        for file in changed_files(baseline, candidate)
    )


def changed_files(baseline: str, candidate: str) -> list[ChangedFile]:
    """Return the files that differ between two commits, by plumbing that no setting changes."""
    fields = git("diff-tree", "-r", "-z", "--no-renames", baseline, candidate).split("\0")
    return [
        ChangedFile(path, *(entry.split()[at] for at in (1, 3)))
        for entry, path in zip(fields[:-1:2], fields[1::2], strict=True)
    ]


def edits_of_the_gate(baseline: str, candidate: str, found: Judgement | None) -> list[str]:
    """Return what a change edits of what judges it, a line each, after the candidate was judged."""
    lines = rule_changes(baseline, candidate, found.claims if found else {})
    try:
        outputs = output_hashes(lock_at(candidate))
    except UserError:
        outputs = {}
    for file in changed_files(baseline, candidate):
        if file.path == str(NOISE):
            lines.append(noise_change(candidate, file, found.runs if found else pd.DataFrame()))
        elif file.path.startswith(FOLDERS) or file.path in FILES:
            lines.append(file.path)
        elif kind := _hidden_content(file, outputs):
            lines.append(f"{file.path} ({kind})")
    return lines


def rule_changes(baseline: str, candidate: str, values: dict[str, Any]) -> list[str]:
    """Return each changed key of gate.yaml with both values; of a new metric, also its value."""
    try:
        old, new = (flatten(yaml_at(one, GATE), reducer="dot") for one in (baseline, candidate))
    except (UserError, AttributeError, TypeError) as error:
        return [f"{GATE}: can't be compared: {error}"]
    keys = [key for key in old | new if old.get(key) != new.get(key)]
    lines = [f"{GATE}: {key}: {old.get(key)} -> {new.get(key)}" for key in keys]
    metrics = {key.split(".")[1] for key in keys if key.startswith("metrics.")}
    return lines + [
        f"{name} is new in {GATE}: {values.get(name)}, judged from the next change on"
        for name in sorted(metrics)
        if not any(key.startswith(f"metrics.{name}.") for key in old)
    ]


def noise_change(candidate: str, file: ChangedFile, measured: pd.DataFrame) -> str:
    """Say whether the candidate's noise was measured again, or contradicts what was measured."""
    if set(file.mode) == {"0"}:
        return f"{NOISE} is deleted"
    try:
        noise = noise_at(candidate)
    except UserError as error:
        return f"{NOISE} does not belong to the candidate: {error}"
    table = noise.table
    seeds = [seed for seed in measured.index if seed in table.index]
    columns = [name for name in table if name in measured]
    wrong = (abs(table.loc[seeds, columns] - measured.loc[seeds, columns]) > ROUNDING).any(axis=1)
    if wrong.any():
        named = ", ".join(map(str, wrong.index[wrong]))
        return f"{NOISE} is edited: for the seeds {named} the gate has measured other numbers"
    return f"{NOISE} is measured again; {len(seeds)} of its {len(table)} runs agree with the gate's"


def _hidden_content(file: ChangedFile, outputs: Iterable[str]) -> str | None:
    """Return what a reviewer can't read in a file outside of the outputs: its kind."""
    if set(file.mode) == {"0"} or any(Path(file.path).is_relative_to(path) for path in outputs):
        return None
    if file.mode in (LINK, SUBMODULE):
        return "a link" if file.mode == LINK else "a submodule"
    if file.path.endswith(BYTECODE):
        return "bytecode"
    return "binary" if b"\0" in git_bytes("cat-file", "blob", file.blob)[:8000] else None
