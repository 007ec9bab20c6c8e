"""README.md and docs/: short, filled with the committed numbers, and no link or command is wrong.

Each check is a function that returns what is wrong, and is shown a page on which it finds it.
"""

import re
from pathlib import Path

import pytest

from fashion.core.files import read_csv
from fashion.core.strict_yaml import read_yaml
from tools.report.readme import TABLE, render_pages

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
DOCS = sorted((PROJECT / "docs").glob("*.md"))
MAX_LINES, MAX_WORDS = 900, 8500  # of all pages in docs/
MAX_WIDTH = 100  # characters in a line of prose; tables and code may be wider

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MARK = re.compile(r"^<!-- /?[\w-]+ -->$", re.MULTILINE)


def wide_lines(text: str, _: Path) -> list[str]:
    """Return the lines of prose that are too wide."""
    prose = FENCED.sub("", text).splitlines()
    return [line for line in prose if len(line) > MAX_WIDTH and not line.startswith("|")]


def unpaired_marks(text: str, _: Path) -> list[str]:
    """Return the marks of tables that have no counterpart, which `make readme` ignores."""
    return MARK.findall(TABLE.sub("", FENCED.sub("", text)))


def broken_links(text: str, page: Path) -> list[str]:
    """Return the relative links to a file or a heading that does not exist."""
    links = LINK.findall(INLINE_CODE.sub("", FENCED.sub("", text)))
    relative = [link.partition("#") for link in links if not re.match(r"[a-z]+:", link)]
    return ["".join(parts) for parts in relative if not leads_somewhere(parts, text, page)]


def leads_somewhere(link: tuple[str, str, str], text: str, page: Path) -> bool:
    name, _, anchor = link
    target = page.parent / name if name else page
    if not anchor or not target.exists():
        return target.exists()
    return anchor in anchors(text if target == page else target.read_text("utf-8"))


def anchors(text: str) -> set[str]:
    """Return the anchors of GitHub: headings in small letters, with hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def unknown_commands(text: str, _: Path) -> list[str]:
    """Return the targets of `make` and our modules for `python -m` that do not exist.

    Commands are inline code, and lines after a prompt in console blocks.
    """
    blocks = "".join(block for language, block in FENCED.findall(text) if language == "console")
    typed = re.findall(r"^\w*\$ +([^#\n]*)", blocks, re.MULTILINE)
    typed += [" ".join(code.split()) for code in INLINE_CODE.findall(FENCED.sub("", text))]
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    made = re.findall(r"(?:^|\s)make +([a-z][\w-]*)", "\n".join(typed), re.MULTILINE)
    run = re.findall(r"python -m ((?:tools|bench|stages)\.[\w.]+)", "\n".join(typed))
    missing = [name for name in run if not (PROJECT / f"{name.replace('.', '/')}.py").is_file()]
    return [name for name in made if name not in targets] + missing


@pytest.mark.parametrize(
    "page", [README, *DOCS, PROJECT / "models/README.md"], ids=lambda page: page.stem
)
def test_a_page_has_no_fault(page):
    text, checks = page.read_text(encoding="utf-8"), [broken_links, unknown_commands]
    if page.parent.name != "models":  # the card is generated, and its paragraphs are not wrapped
        checks += [wide_lines, unpaired_marks]
    assert [fault for check in checks for fault in check(text, page)] == []


WIDE = "x" * (MAX_WIDTH + 1)


@pytest.mark.parametrize(
    ("check", "text", "found"),
    [
        (wide_lines, f"{WIDE}\n| {WIDE} |\n```console\n$ {WIDE}\n```\n", [WIDE]),
        (unpaired_marks, "<!-- a -->\n1\n<!-- /a -->\n<!-- b -->\n", ["<!-- b -->"]),
        (unpaired_marks, "<!-- a -->\n<!-- /b -->\n", ["<!-- a -->", "<!-- /b -->"]),
        (broken_links, "# A\n```\n# No\n```\n[it](#a) [it](#no) [it](no.md)", ["#no", "no.md"]),
        (broken_links, "## `A` can't: b_c\n[it](#a-cant-b_c)", []),
        (broken_links, "[it](https://no.com), [it](docs/models.md#no)", ["docs/models.md#no"]),
        (unknown_commands, "Please make sure: `make no`, `X=1 make test`", ["no"]),
        (unknown_commands, "```console\nhead$ make no # make x\n$ make\n```\n", ["no"]),
        (unknown_commands, "`python\n-m tools.no`, `python -m dvc`", ["tools.no"]),
        (unknown_commands, "```console\n$ python -m bench.no X\n```\n", ["bench.no"]),
    ],
)
def test_a_fault_is_found(check, text, found):
    assert check(text, README) == found


def test_pages_are_short_and_the_readme_leads_to_each():
    readme, pages = README.read_text("utf-8"), "".join(page.read_text("utf-8") for page in DOCS)
    assert len(readme.splitlines()) <= 150
    assert len(pages.splitlines()) <= MAX_LINES and len(pages.split()) <= MAX_WORDS
    assert [page.name for page in DOCS if f"](docs/{page.name}" not in readme] == []


def test_tables_have_the_committed_numbers(monkeypatch):
    monkeypatch.chdir(PROJECT)
    for page, text in render_pages().items():
        assert page.read_text(encoding="utf-8") == text, f"{page}: `make readme` fills it again"
        assert "Not measured yet: no file" not in text


def test_the_committed_table_has_the_experiments_of_experiments_yaml():
    configured = read_yaml(PROJECT / "experiments.yaml")["experiments"]
    rows = read_csv(PROJECT / "metrics/comparisons/experiments.csv").set_index("experiment")
    for name, overrides in configured.items():
        for param, value in overrides.items():
            assert rows.loc[name, param.split(".")[-1]] == value
    assert list(rows.index) == list(configured)


HEADER = "experiment,{}epochs,batch_size,best_epoch,best_val_loss,last_val_loss,last_loss_gap"
HEADER += ",val_accuracy,accuracy,accuracy_low,accuracy_high,macro_f1,environment\n"
FILES = {
    "metrics/comparisons/experiments.csv": HEADER.format("")
    + "a,5,64,4,0.3,0.4,-0.1,0.9,0.5,0.4,0.6,0.7,native\n"
    + "b,8,9,8,0.2,0.2,0.1,0.9,0.8,0.7,0.9,0.8,\n",
    "metrics/comparisons/experiments-seeds.csv": HEADER.format("seed,")
    + "a,1,5,64,4,0.3,0.4,-0.1,0.9,0.5,0.4,0.6,0.7,native\n"
    + "a,2,5,64,3,0.5,0.4,-0.1,0.9,0.7,0.6,0.8,0.7,native\n"
    + "b,1,8,16,8,0.2,0.2,0.1,0.9,0.8,0.7,0.9,0.8,\n",  # with another batch size
    "metrics/sweeps.csv": "sweep,best_trial,val_loss\nmlp,sweep-mlp-001,0.25\n",
    "bench/results/kinds.csv": "kind,mostly_by,runs\nx,,20\n",
    "bench/results/speed.json": '{"tables": {"parts": [{"part": "fit", "seconds": "1.0"}]}}',
}
FILLED = """
<!-- headline -->
| experiment | epochs | batch | seeds | test accuracy | environment |
|:-|-:|-:|:-|:-|:-|
| a | 5 | 64 | 2 | 0.6000 ± 0.1414 | native |
| b | 8 | 9 | – | – | – |
<!-- /headline -->
<!-- sweeps -->
| sweep | best trial | val loss |
|:-|:-|-:|
| mlp | sweep-mlp-001 | 0.2500 |
<!-- /sweeps -->
b
<!-- kinds -->
| kind | mostly by | runs |
|:-|:-|-:|
| x | | 20 |
<!-- /kinds -->
<!-- parts -->
| part | seconds |
|:-|-:|
| fit | 1.0 |
<!-- /parts -->
<!-- x-seeds -->
Not measured yet: no file in metrics/ or bench/results/ has the table x-seeds.
<!-- /x-seeds -->
"""


def test_the_numbers_of_the_files_replace_the_text_between_marks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = re.sub(r"(?<= -->\n)[|N][^<]*", "old\n\nold\n", FILLED)
    for path, text in (FILES | dict.fromkeys(("README.md", "docs/page.md"), page)).items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    for text in render_pages().values():
        assert squeezed(text) == squeezed(FILLED)


def squeezed(text: str) -> str:
    """Return a text without the spaces and dashes that widen a table's columns."""
    return re.sub(r"([- ])\1+", r"\1", text)
