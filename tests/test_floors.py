"""Arrows go only downwards.

From tools and stages to fashion, from fashion nowhere.
"""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
LIBRARIES = ["tools.experiments.", "tools.arguments", "tools.dvc", "tools.fsck", "tools.git"]
LIBRARIES += ["tools.dvc_lock", "tools.overrides", "tools.pipeline", "tools.process"]
FLOORS = {"fashion", "stages", "tools", "bench", "tests"}
ALLOWED = {
    "fashion": ["fashion."],
    "stages": ["fashion.", "stages.pipeline"],
    "tools": ["fashion.", "tools."],
    "tools/experiments": ["fashion.", *LIBRARIES],
    "tools/gate": ["fashion.", *LIBRARIES, "tools.gate."],
    "tools/report": ["fashion.", *LIBRARIES, "tools.report."],
    "bench": ["fashion.", "tools.", "bench.", "tests.support."],
}


def imports(source: str) -> list[str]:
    """The project's modules that a source imports, anywhere in it, by their full names."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in FLOORS]


def forbidden(floor: str, source: str) -> list[str]:
    return [name for name in imports(source) if not f"{name}.".startswith(tuple(ALLOWED[floor]))]


@pytest.mark.parametrize("floor", ALLOWED)
def test_imports_go_downwards(floor):
    sources = {path: path.read_text() for path in (PROJECT / floor).rglob("*.py")}
    assert {
        str(path): bad for path, source in sources.items() if (bad := forbidden(floor, source))
    } == {}


@pytest.mark.parametrize(
    ("floor", "source"),
    [
        ("fashion", "import stages.train"),
        ("fashion", "def f():\n    from stages import pipeline"),
        ("stages", "from stages.train import train"),
        ("stages", "from stages import fetch"),
        ("stages", "from tools.dvc import dvc"),
        ("tools", "from stages.evaluate import evaluate"),
        ("tools", "from bench import speed"),
        ("tools/experiments", "from tools.gate.judge import main"),
        ("tools/gate", "from tools.report import card"),
        ("bench", "from tests.conftest import built"),
    ],
)
def test_an_import_upwards_or_across_is_caught(floor, source):
    assert forbidden(floor, source)


CONFIGURATION = {"params.py": "params.yaml", "dataset.py": "dataset.yaml"}  # in fashion/core
FIXED = ("data/", "models/", "metrics/", "plots/", "params.yaml", "dataset.yaml", "dvc.yaml")


def test_the_library_knows_no_dvc_and_no_path_but_those_of_its_configuration():
    for path in (PROJECT / "fashion").rglob("*.py"):
        tree = ast.parse(path.read_text())
        texts = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        fixed = [text for text in texts if text.startswith(FIXED)]
        assert [text for text in fixed if text != CONFIGURATION.get(path.name)] == [], path
        assert not any(name.startswith("dvc") for name in imports_of_all(tree)), path


def imports_of_all(tree: ast.AST) -> list[str]:
    plain = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    return plain + [
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    ]
