"""The page in a real browser, which can't reach any network."""

import os
import shutil

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

BROWSER = (
    shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def page(compared, tmp_path_factory):
    """The report of two small experiments, opened from disk."""
    repository = compared(tmp_path_factory.mktemp("report"))
    repository.python("tools.report")
    if not (BROWSER and DRIVER):
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser: Debian's packages chromium and chromium-driver")
        pytest.skip("needs chromium (or google-chrome) and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run",
                     "disable-background-networking", "disable-component-update", "disable-sync",
                     "host-resolver-rules=MAP * ~NOTFOUND",
                     f"user-data-dir={tmp_path_factory.mktemp('profile')}"):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.repository = repository
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def opened(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.set_window_size(1280, 900)
    page.get((page.repository.folder / "report.html").as_uri())
    wait(page, lambda: page.find_element(By.TAG_NAME, "body").get_attribute("data-drawn") == "5")
    return page


def wait(page, condition) -> None:
    WebDriverWait(page, 20).until(lambda _: condition())


def marks(page, chart: str, kind: str) -> list:
    return page.find_elements(By.CSS_SELECTOR, f"#{chart} .mark-{kind}.role-mark path")


def errors(page) -> list[str]:
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_every_chart_is_drawn_with_its_series_and_nothing_is_loaded_from_elsewhere(page):
    # two runs, training and validation
    assert len(marks(page, "loss", "line")) == len(marks(page, "accuracy", "line")) == 4
    assert len(marks(page, "f1", "symbol")) == 2 * 10
    for i, name in enumerate(["longer", "short"]):
        revision = page.repository.run(
            "git", "for-each-ref", "--format=%(objectname)", f"refs/exps/**/{name}"
        ).strip()
        page.repository.run("git", "checkout", "--quiet", revision, "--", "plots/predictions.csv")
        table = pd.read_csv(page.repository.folder / "plots/predictions.csv")
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
    wait(page, lambda: page.find_element(By.TAG_NAME, "body").get_attribute("data-drawn") == "5")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    label = page.find_element(By.CSS_SELECTOR, "#loss .role-axis-label text").value_of_css_property(
        "fill"
    )
    assert label == {"light": "rgb(27, 31, 36)", "dark": "rgb(230, 237, 243)"}[scheme]
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert page.save_screenshot(str(tmp_path / "page.png")) and errors(page) == []


def test_every_picture_has_an_alternative_text(page):
    pictures = page.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 1 + 2 * 2
    assert all(
        picture.get_attribute("alt") and picture.get_property("naturalWidth") > 100
        for picture in pictures
    )
    charts = page.find_elements(By.CSS_SELECTOR, ".chart svg")
    assert len(charts) == 5 and all(page.find_elements(By.CSS_SELECTOR, ".chart [aria-label]"))


def test_it_shows_what_differs_and_where_it_comes_from(page):
    text = page.find_element(By.TAG_NAME, "body").text
    assert "train.epochs" in text and "train.learning_rate" not in text
    assert page.repository.run("git", "describe", "--always").strip() in text
    assert "tensorflow" in text and "drawn garments (not Fashion-MNIST)" in text


def test_a_revision_that_does_not_exist_is_named(page):
    output = page.repository.python("tools.report", "nowhere", status=1)
    assert "nowhere" in output and "Traceback" not in output


def test_revisions_can_be_named(page):
    assert "comparing short, HEAD" in page.repository.python("tools.report", "short", "HEAD")


def test_without_experiments_it_says_how_to_get_some(repository):
    assert "make experiments" in repository.python("tools.report", status=1)
