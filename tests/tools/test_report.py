"""The page in a real browser, which can't reach any network."""

import os
import shutil
import subprocess
from base64 import b64decode
from io import BytesIO

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.repository import Repository
from tools.report import __main__ as report

BROWSER = (
    shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
)
DRIVER = shutil.which("chromedriver")


pytestmark = pytest.mark.xdist_group(__name__)  # so that there is one browser


@pytest.fixture(scope="module")
def reported(built_comparison, tmp_path_factory) -> Repository:
    """A repository with two small experiments, and report.html of them."""
    comparison = Repository(built_comparison / "project")
    repository = comparison.copy(tmp_path_factory.mktemp("report") / "project")
    repository.python("tools.report")
    return repository


@pytest.fixture(scope="module")
def browser(reported, tmp_path_factory):
    """The page of two small experiments in a browser, opened from disk."""
    if not (BROWSER and DRIVER):
        reason = (
            "there is no browser: `apt-get install chromium chromium-driver`,"
            " or google-chrome and chromedriver"
        )
        if os.environ.get("CI"):
            pytest.fail(f"{reason}. CI must have it")
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run",
                     "disable-background-networking", "disable-component-update", "disable-sync",
                     "host-resolver-rules=MAP * ~NOTFOUND",
                     f"user-data-dir={tmp_path_factory.mktemp('profile')}"):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get((reported.folder / "report.html").as_uri())
    yield driver
    driver.quit()


@pytest.fixture
def page(browser):
    """The page, wide and light and with all runs shown, whatever the test before has left."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.set_window_size(1280, 900)
    browser.refresh()
    wait_until_drawn(browser)
    return browser


def wait_until_drawn(page) -> None:
    drawn = "return document.body.dataset.drawn"
    wait(page, lambda: page.execute_script(drawn) == "5")


def wait(page, condition) -> None:
    WebDriverWait(page, 20, poll_frequency=0.05).until(lambda _: condition())


def kept(repository, experiment: str, path: str) -> bytes:
    """A file as it is kept with an experiment."""
    reference = f"refs/exps/**/{experiment}"
    revision = repository.run("git", "for-each-ref", "--format=%(objectname)", reference).strip()
    show = ["git", "-C", repository.folder, "show", f"{revision}:{path}"]
    return subprocess.run(show, capture_output=True, check=True).stdout


def marks(page, chart: str, kind: str) -> list:
    return page.find_elements(By.CSS_SELECTOR, f"#{chart} .mark-{kind}.role-mark path")


def errors(page) -> list[str]:
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_every_chart_is_drawn_with_its_series_and_nothing_is_loaded_from_elsewhere(page, reported):
    # two runs, training and validation
    assert len(marks(page, "loss", "line")) == len(marks(page, "accuracy", "line")) == 4
    assert len(marks(page, "f1", "symbol")) == 2 * 10
    for i, name in enumerate(["longer", "short"]):
        table = pd.read_csv(BytesIO(kept(reported, name, "plots/predictions.csv")))
        assert len(marks(page, f"confusion-{i}", "rect")) == len(
            table[["actual", "predicted"]].drop_duplicates()
        )
    assert (
        page.execute_script(
            "return performance.getEntriesByType('resource').filter(e =>"
            " !e.name.startsWith('data:')).length"
        )
        == 0
    )
    assert errors(page) == []


def test_hovering_shows_the_values(page):
    point = marks(page, "loss", "symbol")[-1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    webdriver.ActionChains(page).move_to_element(point).perform()
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element.visible"))
    text = page.find_element(By.ID, "vg-tooltip-element").text
    assert (
        "run" in text and ("short" in text or "longer" in text) and "cross-entropy (nats)" in text
    )
    assert "undefined" not in text


def test_a_run_can_be_switched_off_and_on(page):
    box = page.find_element(By.CSS_SELECTOR, '[data-run="short"]')
    box.click()
    wait(
        page,
        lambda: len(marks(page, "loss", "line")) == 2 and len(marks(page, "f1", "symbol")) == 10,
    )
    assert not page.find_element(By.ID, "confusion-1").is_displayed()
    box.click()
    wait(page, lambda: len(marks(page, "loss", "line")) == 4)
    assert errors(page) == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_narrow_and_wide_light_and_dark(page, width, scheme, tmp_path):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.refresh()
    wait_until_drawn(page)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    label = page.find_element(By.CSS_SELECTOR, "#loss .role-axis-label text").value_of_css_property(
        "fill"
    )
    assert label == {"light": "rgb(27, 31, 36)", "dark": "rgb(230, 237, 243)"}[scheme]
    assert page.save_screenshot(str(tmp_path / "page.png")) and errors(page) == []


def test_every_picture_is_that_of_its_run_and_has_an_alternative_text(page, reported):
    wanted = [("longer", "samples")]
    wanted += [(run, name) for run in ("longer", "short") for name in ("predictions", "mistakes")]
    pictures = page.find_elements(By.TAG_NAME, "img")
    for picture, (run, name) in zip(pictures, wanted, strict=True):
        content = b64decode(picture.get_attribute("src").removeprefix("data:image/png;base64,"))
        assert content == kept(reported, run, f"plots/{name}.png")
        assert picture.get_attribute("alt")
        assert picture.get_property("naturalWidth") == 1  # pixel: the browser can show it
    charts = page.find_elements(By.CSS_SELECTOR, ".chart svg")
    assert len(charts) == 5 and all(page.find_elements(By.CSS_SELECTOR, ".chart [aria-label]"))


def test_it_shows_what_differs_and_where_it_comes_from(page, reported):
    text = page.find_element(By.TAG_NAME, "body").text
    assert "train.epochs" in text and "train.learning_rate" not in text
    assert reported.run("git", "describe", "--always").strip() in text
    assert "tensorflow" in text and "toy squares" in text


def test_a_revision_that_does_not_exist_is_named(reported):
    output = reported.python("tools.report", "nowhere", status=1)
    assert "nowhere" in output and "Traceback" not in output


def test_revisions_can_be_named(compared, call):
    assert "comparing short, HEAD" in call(compared, report, "short", "HEAD")


def test_without_experiments_it_says_how_to_get_some(toy, call):
    assert "make experiments" in call(toy, report, status=1)
