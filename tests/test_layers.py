"""Imports go only downwards: tools and stages import fashion, and fashion imports neither."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SHARED = ["fashion.", "tools.experiments.", "tools.arguments", "tools.dvc", "tools.fsck"]
SHARED += ["tools.git", "tools.overrides", "tools.pipeline", "tools.process", "tools.tables"]
LAYERS = {"fashion", "stages", "tools", "bench", "tests"}
ALLOWED = {
    "fashion": ["fashion."],
    "stages": ["fashion.", "stages.StagePaths", "stages.load_split", "stages.run"],
    "tools": ["fashion.", "tools."],
    "tools/experiments": SHARED,
    "tools/gate": [*SHARED, "tools.gate."],
    "tools/report": [*SHARED, "tools.gate.noise", "tools.report."],
    "bench": ["fashion.", "tools.", "bench.", "tests.support."],
}
CONFIGURATION = {"params.py": "params.yaml", "dataset.py": "dataset.yaml"}  # in fashion/core
FIXED = ("data/", "models/", "metrics/", "plots/", "params.yaml", "dataset.yaml", "dvc.yaml")


def imports(source: str) -> list[str]:
    """Return the full names of everything that a source imports, also inside of functions."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [one.name for node in nodes if isinstance(node, ast.Import) for one in node.names]
    return names + [
        f"{node.module}.{one.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for one in node.names
    ]


def forbidden(folder: str, source: str) -> list[str]:
    """Return what a source in a folder imports although it must not."""
    ours = [name for name in imports(source) if name.split(".")[0] in LAYERS]
    return [name for name in ours if not f"{name}.".startswith(tuple(ALLOWED[folder]))]


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_downwards(folder):
    sources = {path: path.read_text() for path in (PROJECT / folder).rglob("*.py")}
    found = {str(path): forbidden(folder, source) for path, source in sources.items()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("fashion", "import stages.train"),
        ("fashion", "def f():\n    from stages import run"),
        ("stages", "from stages import fetch"),
        ("stages", "from tools.dvc import dvc"),
        ("tools", "from bench import speed"),
        ("tools/experiments", "from tools.gate.judge import main"),
        ("tools/report", "from tools.gate import check"),
        ("bench", "from tests.conftest import built"),
    ],
)
def test_a_forbidden_import_is_found(folder, source):
    assert forbidden(folder, source)


def test_the_library_names_no_dvc_command_and_only_the_paths_of_its_configuration():
    for path in (PROJECT / "fashion").rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "value")]
        texts = [node.value for node in nodes if isinstance(node.value, str)]
        fixed = [text for text in texts if text.startswith(FIXED)]
        assert [text for text in fixed if text != CONFIGURATION.get(path.name)] == [], path
        assert not any(name.startswith("dvc") for name in imports(path.read_text())), path
        words = [word for text in texts for word in text.split("`")]
        assert not any(word.startswith("dvc ") for word in words), path


def test_pytest_starts_with_the_packages_of_requirements_txt_alone():
    """Test files that import others are skipped; these may import them only inside of functions."""
    others = (PROJECT / "requirements/dev.in").read_text().splitlines()
    for path in [*PROJECT.glob("tests/**/conftest.py"), *PROJECT.glob("tests/support/*.py")]:
        code = ast.parse(path.read_text())
        code.body = [node for node in code.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not {name.split(".")[0] for name in imports(ast.unparse(code))} & {*others}, path
