"""The page to try models on, in a browser that can reach no network, and its answers."""

import io
import json
import os
import re
import subprocess

import numpy as np
import pytest
import requests
from PIL import Image
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from fashion.core.dataset import read_dataset
from fashion.core.files import read_csv
from tests.support.commands import TIMEOUT, begin, typed
from tests.support.repository import PROJECT, Repository
from tools import app

if not os.environ.get("CI"):  # which must have it
    pytest.importorskip("gradio", reason="pip install -r requirements/app.txt")

pytestmark = pytest.mark.slow
NAMES = ["<b>0</b>", *"123456789"]  # which a browser would put first, or take for HTML


@pytest.fixture(scope="module")
def page(built, tmp_path_factory):
    """Yield the page's address, a folder of pictures, and a project with the experiment `run-3`."""
    folder = tmp_path_factory.mktemp("app")
    repository = Repository(built).copy(folder / "project")
    repository.set(f"class_names={NAMES}")
    repository.dvc("exp", "save", "--quiet", "--name", "run-3")
    (repository.folder / "models/model.keras").unlink()  # so that answers come from `run-3`
    image = np.load(repository.folder / "data/prepared/test_images.npy")[0]
    Image.fromarray(image).save(folder / "<i>0.png")
    Image.fromarray(np.kron(255 - image, np.ones((9, 9), np.uint8))).save(folder / "shirt.jpg")
    (folder / "text.png").write_text("no picture")
    with begin(repository, "tools.app") as command:
        command.wait_for_line("http://")
        yield re.search(r"http://[\d.:]+", command.output)[0], folder, repository


class Page:
    """The page in a browser, and what a user does there."""

    def __init__(self, browser, address):
        self.browser = browser
        self.waiting = WebDriverWait(browser, TIMEOUT, ignored_exceptions=[WebDriverException])
        browser.get(address)

    def find(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def button(self, name):
        path = f"//button[normalize-space()='{name}' or @aria-label='{name}']"
        return self.browser.find_element(By.XPATH, path)

    def click(self, name):
        self.waiting.until(lambda _: self.button(name).click() or True)

    @property
    def text(self):
        return self.find("body")[0].text

    @property
    def notes(self):
        return self.find("textarea")[0].get_attribute("value")

    def choose(self, model):
        """Choose a model, and return the names of those that can be chosen."""
        field = self.waiting.until(lambda _: self.find("input[aria-label=Model]"))[0]
        field.click()
        names = [one.text.removeprefix("✓").strip() for one in self.find("[role=option]")]
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(model, Keys.ENTER)
        return names

    def upload(self, path):
        self.find("input[type=file]")[0].send_keys(str(path))
        self.waiting.until(lambda _: self.button("Remove Image"))

    def submit(self, answered):
        self.click("Submit")
        self.waiting.until(lambda _: answered())


def test_pictures_are_classified_as_by_evaluate_and_nothing_is_asked_from_elsewhere(
    page, browser, built
):
    address, folder, repository = page
    page = Page(browser, address)
    assert page.choose("run-3") == ["workspace", "run-3"]
    page.upload(folder / "<i>0.png")
    page.submit(lambda: page.notes)
    accuracy = json.loads(repository.read("metrics/test.json"))["accuracy"]
    assert page.notes == f"run-3 has a test accuracy of {accuracy:.1%}"
    best, *rows = page.find("[data-testid=label-output-value], [data-testid$=-confidence-set]")
    shares = [int(row.text.split("\n")[1].rstrip("%")) for row in rows]
    names = [row.text.split("\n")[0] for row in rows]
    assert sorted(names) == sorted(NAMES) and shares == sorted(shares, reverse=True)
    class_names = read_dataset(built / "dataset.yaml").class_names
    _, predicted, confidence, _ = read_csv(repository.folder / "plots/predictions.csv").iloc[0]
    assert best.text == names[0] == NAMES[class_names.index(predicted)]
    assert shares[0] == round(100 * confidence)
    api = f"{address}/gradio_api"
    files = {"files": (folder / "<i>0.png").read_bytes()}
    [path] = requests.post(f"{api}/upload", files=files, timeout=TIMEOUT).json()
    reply = requests.post(
        f"{api}/run/predict", json={"data": [{"path": path}, "run-3"]}, timeout=TIMEOUT
    )
    exact = reply.json()["data"][2]["confidences"][0]["confidence"]
    assert exact == pytest.approx(confidence, abs=1e-6)
    assert 8 * 28 in [image.get_property("naturalWidth") for image in page.find("img")]
    loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(one.startswith(address) for one in browser.execute_script(loaded))


def test_a_picture_is_taken_with_the_camera(page, browser):
    page = Page(browser, page[0])
    page.choose("run-3")
    for name in ("Capture from camera", "Click to Access Webcam", "capture photo"):
        page.click(name)
    page.waiting.until(lambda _: page.button("Remove Image"))
    page.submit(lambda: page.notes)
    notes = r"\ncolour to grey\n\d+x\d+ fitted to 28x28$"  # of Chromium's fake camera
    assert re.search(notes, page.notes)


def test_what_is_wrong_is_said(page, browser):
    address, folder, _ = page
    page = Page(browser, address)
    page.submit(lambda: "upload a picture first" in page.text)
    page.upload(folder / "text.png")
    page.choose("run-3")
    page.submit(lambda: "picture: not a picture in PNG or JPEG format" in page.text)
    page.choose("workspace")
    page.click("Remove Image")
    page.upload(folder / "shirt.jpg")
    page.submit(lambda: "models/model.keras is missing" in page.text)


def test_it_answers_programs_as_documented(page):
    address, folder, _ = page
    text = (PROJECT / "docs/models.md").read_text("utf-8")
    example = re.search(r"^\$ (U=.*\n.*curl .*)", text, re.MULTILINE)[1]
    script = example.replace("http://127.0.0.1:7860", address)
    result = subprocess.run(["sh", "-euc", script], cwd=folder, capture_output=True, check=True)
    _, notes, answer = json.loads(result.stdout)["data"]
    assert notes.endswith("\nlight ground inverted\n252x252 fitted to 28x28")
    assert sorted(one["label"] for one in answer["confidences"]) == sorted(NAMES)
    assert sum(one["confidence"] for one in answer["confidences"]) == pytest.approx(1)


def test_what_should_get_no_answer_gets_none(page):
    """Other files of this machine, large files, and pages of other hosts that lead here."""
    address, folder, _ = page
    api, data = f"{address}/gradio_api", {"data": [{"path": str(folder / "shirt.jpg")}, "run-3"]}
    reply = requests.post(f"{api}/run/predict", json=data, timeout=TIMEOUT)
    assert "upload a picture first" in reply.text
    files = {"files": ("large.png", bytes(21_000_000))}
    assert requests.post(f"{api}/upload", files=files, timeout=TIMEOUT).status_code == 413
    headers = {"Host": "evil.example"}
    assert requests.get(address, headers=headers, timeout=TIMEOUT).status_code == 400


def test_a_committed_model_answers_with_the_classes_and_accuracy_of_its_commit(repository):
    picture = io.BytesIO()
    Image.new("L", (28, 28)).save(picture, "PNG")
    before = read_dataset(repository.folder / "dataset.yaml").class_names
    committed = json.loads(repository.read("metrics/test.json"))["accuracy"]
    repository.set(f"class_names={json.dumps(before[::-1])}")
    (repository.folder / "metrics/test.json").write_text('{"accuracy": 0.007}')
    with typed(repository.folder, "app"):
        answers = [app.answer(picture.getvalue(), model) for model in ("HEAD", "workspace")]
    assert [[*shares] for _, _, shares in answers] == [before, before[::-1]]
    for (_, notes, _), accuracy in zip(answers, (committed, 0.007), strict=True):
        assert f"has a test accuracy of {accuracy:.1%}" in notes
