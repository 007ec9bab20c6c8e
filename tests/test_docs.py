"""README.md and docs/: short, filled with the committed numbers, and nothing in them leads nowhere.

Each check is a function that returns what is wrong, and is shown a page on which it finds it.
"""

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

from fashion.core.errors import UserError
from tools.report.readme import headline, pages, render_pages, render_tables

PROJECT = Path(__file__).parents[1]
MOST_LINES_OF_README = 150
MOST_CHARACTERS = 100  # of a line of prose; tables and code may be wider
PAGES = pages(PROJECT)
LINKED = [*PAGES, PROJECT / "models/README.md"]  # whose links are checked

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PROMPT = re.compile(r"^\w*\$ +")
COMMENT = re.compile(r"(?:^|\s)#.*")


def short_name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def wide_lines(text: str) -> list[str]:
    """Lines of prose with more characters than there should be."""
    prose = FENCED.sub("", text).splitlines()
    return [line for line in prose if len(line) > MOST_CHARACTERS and not line.startswith("|")]


def anchors(text: str) -> set[str]:
    """What GitHub lets a link name: the headings, in small letters, with hyphens for spaces."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        title = LINK.sub("", heading) if LINK.fullmatch(heading) else heading
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        same = [f"{slug}-{number}" for number in range(1, len(found) + 1)]
        found.add(next(name for name in [slug, *same] if name not in found))
    return found


def broken_links(text: str, path: Path) -> list[str]:
    """Relative links of the page at `path` to a file or a heading that is not there."""
    prose = INLINE_CODE.sub("", FENCED.sub("", text))
    broken = []
    for link in LINK.findall(prose):
        if re.match(r"[a-z]+:", link):  # on the web
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        there = target.exists()
        if there and anchor:
            there = anchor in anchors(text if target == path else target.read_text("utf-8"))
        if not there:
            broken.append(link)
    return broken


def commands(text: str) -> list[str]:
    """The commands of a page: in code within a line, and after a prompt in console blocks."""
    typed = [
        COMMENT.sub("", PROMPT.sub("", line))
        for language, block in FENCED.findall(text)
        for line in block.splitlines()
        if language == "console" and PROMPT.match(line)
    ]
    return typed + [" ".join(code.split()) for code in INLINE_CODE.findall(FENCED.sub("", text))]


def unknown_targets(text: str) -> list[str]:
    """What a page has `make` do that is no target of the Makefile."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    named = re.findall(r"(?:^|\s)make +([a-z][\w-]*)", "\n".join(commands(text)), re.MULTILINE)
    return [name for name in named if name not in targets]


def unknown_modules(text: str) -> list[str]:
    """The modules that a page has Python run, and that are neither ours nor installed."""
    named = re.findall(r"python -m ([\w.]+)", "\n".join(commands(text)))
    return [name for name in named if not module_exists(name)]


def module_exists(name: str) -> bool:
    if (PROJECT / f"{name.replace('.', '/')}.py").is_file():
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_the_readme_fits_on_three_screens():
    lines = (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES_OF_README


def test_the_readme_leads_to_every_page():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    unlinked = [page.name for page in PAGES[1:] if f"](docs/{page.name}" not in readme]
    assert unlinked == []


@pytest.mark.parametrize("page", PAGES, ids=short_name)
def test_lines_are_not_too_wide(page):
    assert wide_lines(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", LINKED, ids=short_name)
def test_links_lead_somewhere(page):
    assert broken_links(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize("page", LINKED, ids=short_name)
def test_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    assert unknown_targets(text) + unknown_modules(text) == []


def test_tables_have_the_committed_numbers():
    for page, text in render_pages(PROJECT).items():
        assert page.read_text(encoding="utf-8") == text, f"{page}: `make readme` makes it anew"


def test_a_wide_line_is_found_but_not_in_tables_and_code():
    wide = "x" * (MOST_CHARACTERS + 1)
    assert wide_lines(f"{wide}\n| {wide} |\n```console\n$ {wide}\n```\n") == [wide]


@pytest.mark.parametrize(
    "link",
    ["nowhere.md", "nowhere/README.md", "#nowhere", "docs/experiments.md#nowhere", "plots/no.png"],
)
def test_a_broken_link_is_found(link):
    text = f"# Here\n[one](README.md), [two](#here), [three](https://example.com), ![it]({link})\n"
    assert broken_links(text, PROJECT / "README.md") == [link]


def test_a_heading_in_a_code_block_is_none():
    text = "# Here\n```\n# There\n```\n[it](#there)\n"
    assert broken_links(text, PROJECT / "README.md") == ["#there"]


def test_anchors_are_those_of_github():
    text = "# What `make` does\n## Why not DVC's queue?\n## A, b: c_d\n## Again\n## Again\n"
    slugs = {"what-make-does", "why-not-dvcs-queue", "a-b-c_d", "again", "again-1"}
    assert anchors(text) == slugs


def test_an_unknown_target_is_found():
    text = "Please make sure: `make nothing`, `X=1 make test`.\n"
    text += "```console\n$ make no # make x\n```\n"
    assert sorted(unknown_targets(text)) == ["no", "nothing"]


def test_an_unknown_module_is_found():
    text = "`python -m tools.nothing`, `python\n-m no_such.module`, `python -m dvc`\n"
    text += (
        "```console\nhead$ python -m bench.nothing FOLDER\n$ python -m tools.report.readme\n```\n"
    )
    unknown = ["bench.nothing", "no_such.module", "tools.nothing"]
    assert sorted(unknown_modules(text)) == unknown


def test_a_table_replaces_what_stood_between_its_marks():
    text = "a\n<!-- one -->\nold\n\nold\n<!-- /one -->\nb\n<!-- one -->\n<!-- /one -->\n"
    new = "a\n<!-- one -->\nnew\n<!-- /one -->\nb\n<!-- one -->\nnew\n<!-- /one -->\n"
    assert render_tables(text, {"one": "new"}, "page") == new
    assert render_tables(new, {"one": "new"}, "page") == new


def test_marks_in_code_are_shown_not_filled():
    text = "`<!-- two -->`\n```\n<!-- two -->\n```\n"
    assert render_tables(text, {"one": "new"}, "page") == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n<!-- two -->\n<!-- /two -->\n", "page:2: there is no table two. There are: one, three"),
        ("<!-- one -->\nold\n", "page: <!-- one --> is never closed by <!-- /one -->"),
        ("<!-- /one -->\n", "page:1: found <!-- /one -->, expected an opening mark"),
        ("<!-- one -->\n<!-- /three -->", "page:2: found <!-- /three -->, expected <!-- /one -->"),
        ("<!-- one -->\n<!-- three -->", "page:2: found <!-- three -->, expected <!-- /one -->"),
        ("<!-- one -->\n<!-- one -->", "page:2: found <!-- one -->, expected <!-- /one -->"),
    ],
)
def test_a_wrong_mark_is_refused(text, message):
    with pytest.raises(UserError) as error:
        render_tables(text, {"one": "new", "three": "new"}, "page")
    assert str(error.value) == message


def test_a_table_that_stands_nowhere_is_named(tmp_path):
    (tmp_path / "README.md").write_text("<!-- seeds -->\n<!-- /seeds -->\n")
    with pytest.raises(UserError, match=r"no page has a table between .*<!-- gate -->") as error:
        render_pages(tmp_path)
    assert "<!-- seeds -->" not in str(error.value)


def test_a_table_that_was_not_measured_says_so(tmp_path):
    names = re.findall(r"^<!-- ([a-z-]+) -->$", all_pages(), re.MULTILINE)
    marks = "".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in names)
    (tmp_path / "README.md").write_text(marks)
    text = render_pages(tmp_path)[tmp_path / "README.md"]
    assert text.count("Not measured yet") == len(names)


def all_pages() -> str:
    return "\n".join(FENCED.sub("", page.read_text(encoding="utf-8")) for page in PAGES)


def test_the_headline_has_mean_and_deviation_over_seeds():
    experiments = pd.DataFrame({"experiment": ["a", "b"], "epochs": [5, 8], "batch_size": [64, 9]})
    seeds = pd.DataFrame({"experiment": ["a", "a", "a"], "accuracy": [0.5, 0.6, 0.7]})
    rows = headline(experiments, seeds).to_dict("list")
    assert rows == {
        "experiment": ["a", "b"],
        "epochs": ["5", "8"],
        "batch size": ["64", "9"],
        "test accuracy, mean ± standard deviation over 3 seeds": ["0.6000 ± 0.1000", "–"],
    }


def test_native_arithmetic_stands_beside_the_headline():
    experiments = pd.DataFrame({"experiment": ["a", "b"], "epochs": [5, 8], "batch_size": [9, 9]})
    seeds = pd.DataFrame({"experiment": ["a", "b"], "accuracy": 0.5})
    seeds["arithmetic"] = ["native", None]
    assert headline(experiments, seeds)["arithmetic"].tolist() == ["native", ""]
