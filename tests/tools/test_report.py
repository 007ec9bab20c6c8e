"""The report page: its charts and tables, and all of it in a browser that can reach no network."""

import json
import re
from base64 import b64decode
from io import BytesIO

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from fashion.core.errors import UserError
from fashion.core.files import read_csv
from tests.support.commands import call, typed
from tests.support.repository import TOY_CLASSES, Repository
from tools.report import __main__ as report
from tools.report.charts import COLOURS


@pytest.fixture(scope="module")
def reported(built_comparison, tmp_path_factory) -> Repository:
    """Return a repository with two small experiments and their report.html."""
    comparison = Repository(built_comparison / "project")
    repository = comparison.copy(tmp_path_factory.mktemp("report") / "project")
    assert "comparing longer, short" in call(report.main, repository.folder)
    return repository


def charts_of(repository: Repository) -> dict[str, dict]:
    text = repository.read("report.html").decode()
    return json.loads(re.search(r"const charts = (.*);\n", text)[1])


def test_each_chart_has_the_numbers_of_its_run_on_their_axes(reported):
    charts = charts_of(reported)
    values = {name: pd.DataFrame(chart["data"]["values"]) for name, chart in charts.items()}
    for i, run in enumerate(["longer", "short"]):
        history, per_class, predictions = (
            read_csv(file_of(reported, run, path))
            for path in ("plots/history.csv", "metrics/per_class.csv", "plots/predictions.csv")
        )
        for quantity, label in (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy")):
            curves = values[quantity].query("run == @run").groupby("images")[label].agg(list)
            assert curves["training"] == history[quantity].tolist()
            assert curves["validation"] == history[f"val_{quantity}"].tolist()
        assert values["f1"].query("run == @run")["f1"].tolist() == per_class["f1"].tolist()
        cells, axes = values[f"confusion-{i}"], charts[f"confusion-{i}"]["encoding"]
        right = cells.query("actual == predicted")["images"].sum()
        assert right == (predictions["actual"] == predictions["predicted"]).sum()
        assert cells.groupby("actual")["share"].sum().tolist() == pytest.approx(10 * [1])
        assert [axes[axis]["field"] for axis in "xy"] == ["predicted", "actual"]
        assert axes["x"]["sort"] == axes["y"]["sort"] == TOY_CLASSES
    fields = {
        name: {axis: part["field"] for axis, part in encoding.items() if axis != "tooltip"}
        for name, encoding in ((name, charts[name]["encoding"]) for name in ("loss", "f1"))
    }
    axes = {"x": "epoch", "y": "cross-entropy (nats)", "color": "run", "strokeDash": "images"}
    assert fields == {"loss": axes, "f1": {"x": "f1", "y": "class", "color": "run", "shape": "run"}}
    assert charts["f1"]["encoding"]["y"]["sort"] == TOY_CLASSES
    shade, number = charts["confusion-0"]["layer"]
    assert shade["encoding"]["color"]["field"] == "share"
    assert number["encoding"]["text"]["field"] == "images"
    colours = [charts[name]["encoding"]["color"]["scale"] for name in ("loss", "accuracy", "f1")]
    assert colours == 3 * [{"domain": ["longer", "short"], "range": COLOURS}]  # as in the list


@pytest.fixture(scope="module")
def page(browser, reported):
    """Return the browser with the page, opened from disk in a wide window with light colours."""
    show_in(browser, 1280, "light")
    browser.get((reported.folder / "report.html").as_uri())
    wait(browser, lambda: browser.execute_script("return document.body.dataset.drawn") == "5")
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def show_in(browser, width: int, scheme: str) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def wait(page, condition) -> None:
    WebDriverWait(page, 20, poll_frequency=0.05).until(lambda _: condition())


def marks(page, chart: str, kind: str) -> list:
    return page.find_elements(By.CSS_SELECTOR, f"#{chart} .mark-{kind}.role-mark path")


def labels(page, chart: str, role: str) -> list[str]:
    return [text.text for text in page.find_elements(By.CSS_SELECTOR, f"#{chart} .{role} text")]


def file_of(repository: Repository, name: str, path: str) -> bytes:
    """Return a file as it is committed with an experiment."""
    with typed(repository.folder):
        return report.find_results([name])[0].file_bytes(path)


def test_every_chart_is_drawn_with_its_series_and_nothing_is_loaded_from_elsewhere(page, reported):
    for chart in ("loss", "accuracy"):  # two runs, training and validation
        dashes = [line.get_attribute("stroke-dasharray") for line in marks(page, chart, "line")]
        assert sorted(dashes) == ["1,0", "1,0", "5,4", "5,4"]
        assert labels(page, chart, "role-axis-label")[0] == "1"  # no empty epoch 0
    assert len(marks(page, "f1", "symbol")) == 2 * 10
    assert labels(page, "f1", "role-legend-label") == ["longer", "short"]
    for i, name in enumerate(["longer", "short"]):
        table = pd.read_csv(BytesIO(file_of(reported, name, "plots/predictions.csv")), dtype=str)
        pairs = table[["actual", "predicted"]].drop_duplicates()
        assert len(marks(page, f"confusion-{i}", "rect")) == len(pairs)
        assert {*labels(page, f"confusion-{i}", "role-axis-label")} == {*TOY_CLASSES}
    resources = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(name.startswith("data:") for name in page.execute_script(resources))


def test_hovering_shows_the_values_of_a_point(page, reported):
    point = marks(page, "loss", "symbol")[-1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    webdriver.ActionChains(page).move_to_element(point).perform()
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible"))
    rows = page.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element tr")
    shown = dict(row.text.rsplit(" ", 1) for row in rows)
    history = pd.read_csv(BytesIO(file_of(reported, shown["run"], "plots/history.csv")))
    column = {"training": "loss", "validation": "val_loss"}[shown["images"]]
    value = history.set_index("epoch")[column][int(shown["epoch"])]
    assert shown["cross-entropy (nats)"] == f"{value:.4f}"


def test_a_run_can_be_switched_off_and_on(page):
    box = page.find_element(By.CSS_SELECTOR, '[data-run="short"]')
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    box.click()
    wait(page, lambda: len(marks(page, "loss", "line")) == 2)
    wait(page, lambda: len(marks(page, "f1", "symbol")) == 10)
    assert not page.find_element(By.ID, "confusion-1").is_displayed()
    box.click()
    wait(page, lambda: len(marks(page, "loss", "line")) == 4)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_it_is_readable_narrow_and_dark_wide_and_light(page, width, scheme):
    show_in(page, width, scheme)
    wait(page, lambda: page.execute_script("return innerWidth") == width)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    label = page.find_element(By.CSS_SELECTOR, "#loss .role-axis-label text")
    body = page.find_element(By.TAG_NAME, "body")
    colours = (label.value_of_css_property("fill"), body.value_of_css_property("background-color"))
    text, ground = (int(re.search(r"\d+", colour)[0]) for colour in colours)  # red, 0 to 255
    assert abs(ground - text) > 200 and (ground > text) == (scheme == "light")


def test_every_plot_is_that_of_its_run_and_has_an_alternative_text(page, reported):
    wanted = [("longer", "samples")]
    wanted += [(run, name) for run in ("longer", "short") for name in ("predictions", "mistakes")]
    plots = page.find_elements(By.TAG_NAME, "img")
    for plot, (run, name) in zip(plots, wanted, strict=True):
        content = b64decode(plot.get_attribute("src").removeprefix("data:image/png;base64,"))
        assert content == file_of(reported, run, f"plots/{name}.png")
        assert plot.get_attribute("alt")
        assert plot.get_property("naturalWidth") == 1  # pixel: the browser can show it


def test_it_shows_every_metric_what_differs_and_where_it_comes_from(page, reported):
    text = page.find_element(By.TAG_NAME, "body").text
    assert "train.epochs 3 1" in text and "train.learning_rate" not in text
    assert reported.run("git", "describe", "--always").strip() in text
    assert "toy squares: 2 runs compared" in text
    header, *rows = page.find_element(By.TAG_NAME, "table").find_elements(By.TAG_NAME, "tr")
    titles = [cell.text for cell in header.find_elements(By.TAG_NAME, "th")]
    for row in rows:
        cells = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        shown = dict(zip(titles, cells, strict=True))
        test, train = (
            json.loads(file_of(reported, shown["experiment"], f"metrics/{part}.json"))
            for part in ("test", "train")
        )
        assert shown["test loss"] == f"{test['loss']:.4f}"
        assert shown["test macro f1"] == f"{test['macro_f1']:.4f}"
        assert shown["validation accuracy"] == f"{train['val_accuracy']:.4f}"


def test_it_compares_named_revisions_or_the_experiments_of_an_equal_pipeline(compared, capsys):
    def names(*revisions: str) -> list[str]:
        return [result.name for result in report.find_results([*revisions])]

    call(report.main, compared.folder, "short", "longer", "HEAD")
    cells = re.findall("<td>(.*?)</td>", compared.read("report.html").decode())
    assert cells[cells.index("train.epochs") :][1:4] == ["1", "3", "2"]
    for name in ("loss", "accuracy", "f1"):
        points = charts_of(compared)[name]["data"]["values"]
        assert {point["run"] for point in points} == {"short", "longer", "HEAD"}
    with typed(compared.folder):
        assert names("short", "HEAD") == ["short", "HEAD"]
        compared.commit("The comparison")
        assert names() == ["longer", "short"]
        assert "The experiments are those of commit" in capsys.readouterr().out
        compared.set("train.epochs=7")
        compared.commit("Other params")
        with pytest.raises(UserError, match="`make experiments` runs them"):
            names()
        with (compared.folder / "metrics/test.json").open("a") as file:
            file.write("<<<<<<< HEAD\n")  # the marks of a conflict
        compared.commit("An unfinished merge")
        with pytest.raises(UserError, match=r"metrics/test\.json of .*: not YAML"):
            names("HEAD~1", "HEAD")
