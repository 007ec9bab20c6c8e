"""Arrows go only downwards.

From tools to the stages' configuration and fashion, from stages to fashion, from fashion nowhere.
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
    "stages": ["fashion.", "stages.dataset", "stages.params", "stages.pipeline"],
    "tools": ["fashion.", "stages.dataset", "stages.params", "tools."],
    "tools/experiments": ["fashion.", "stages.dataset", "stages.params", *LIBRARIES],
    "tools/gate": ["fashion.", "stages.dataset", "stages.params", *LIBRARIES, "tools.gate."],
    "tools/report": ["fashion.", "stages.dataset", "stages.params", *LIBRARIES, "tools.report."],
    "bench": ["fashion.", "stages.dataset", "stages.params", "tools.", "bench.", "tests.support."],
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
        ("fashion", "import stages.params"),
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


def test_the_library_knows_no_dvc_no_params_and_no_fixed_path():
    for path in (PROJECT / "fashion").glob("*.py"):
        tree = ast.parse(path.read_text())
        texts = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        for text in texts:
            assert not text.startswith(
                (
                    "data/",
                    "models/",
                    "metrics/",
                    "plots/",
                    "params.yaml",
                    "dataset.yaml",
                    "dvc.yaml",
                )
            ), (path, text)
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
