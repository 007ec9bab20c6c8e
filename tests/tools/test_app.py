"""The page to try models on, in a browser that can reach no network, and its answers."""

import json
import os
import re
import urllib.request

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from fashion.core.dataset import read_dataset
from fashion.core.errors import UserError
from fashion.core.files import read_csv
from tests.support.commands import TIMEOUT, begin, typed
from tests.support.ray_cluster import free_port
from tests.support.repository import Repository
from tools import app

if not os.environ.get("CI"):  # which must have it
    pytest.importorskip("fastapi", reason="pip install -r requirements/app.txt")


# which a browser would put first, or take for HTML
NAMES = ["<b>0</b>", *"123456789"]


@pytest.fixture(scope="module")
def page(built, tmp_path_factory):
    """Yield the page's address, a folder of pictures, and a project with the experiment `saved`."""
    folder = tmp_path_factory.mktemp("app")
    repository, port = Repository(built).copy(folder / "project"), free_port()
    repository.set(f"class_names={NAMES}")
    repository.dvc("exp", "save", "--quiet", "--name", "saved")
    (repository.folder / "models/model.keras").unlink()  # so that answers come from `saved`
    image = np.load(repository.folder / "data/prepared/test_images.npy")[0]
    Image.fromarray(image).save(folder / "<i>0.png")
    Image.fromarray(np.kron(255 - image, np.ones((9, 9), np.uint8))).save(folder / "large.jpg")
    (folder / "text.png").write_text("no picture")
    with begin(repository, "tools.app", "--port", str(port)) as command:
        command.wait_for_line("Ctrl-C")
        yield f"http://127.0.0.1:{port}", folder, repository


def test_pictures_are_classified_as_by_evaluate_and_nothing_is_asked_from_elsewhere(
    page, browser, built
):
    address, folder, repository = page
    browser.get(f"{address}/")
    wait = WebDriverWait(browser, TIMEOUT)
    models = wait.until(lambda _: Select(browser.find_element(By.ID, "model")).options)
    assert [model.text.split(" (test accuracy ")[0] for model in models] == ["workspace", "saved"]
    Select(browser.find_element(By.ID, "model")).select_by_value("saved")
    files = [str(folder / name) for name in ("<i>0.png", "large.jpg", "text.png")]
    browser.find_element(By.ID, "pictures").send_keys("\n".join(files))
    wait.until(lambda _: len(browser.find_elements(By.TAG_NAME, "h2")) == 3)
    browser.find_element(By.ID, "camera").click()
    wait.until(lambda _: len(browser.find_elements(By.TAG_NAME, "h2")) == 4)
    text = browser.find_element(By.ID, "answers").text
    assert "<i>0.png\nas it is" in text and "not a picture in PNG or JPEG format" in text
    assert "light ground inverted, 252x252 fitted to 28x28" in text
    assert "your picture\ncolour to grey, 640x480 fitted to 28x28" in text  # Chromium's fake camera
    table = browser.find_elements(By.TAG_NAME, "table")[-1].text.replace("\n", " ")
    rows = re.findall(r"(\S+) ([\d.]+)%", table)
    shares = [float(share) for _, share in rows]
    assert sorted(name for name, _ in rows) == sorted(NAMES)
    assert shares == sorted(shares, reverse=True)
    class_names = read_dataset(built / "dataset.yaml").class_names
    _, predicted, confidence, _ = read_csv(repository.folder / "plots/predictions.csv").iloc[0]
    assert rows[0][0] == NAMES[class_names.index(predicted)]
    assert shares[0] == pytest.approx(100 * confidence, abs=0.051)
    images = browser.find_elements(By.TAG_NAME, "img")
    assert [image.get_property("naturalWidth") for image in images] == [28] * 3
    loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(one.startswith(address) for one in browser.execute_script(loaded))


def test_models_are_listed_with_their_accuracy_where_it_is_known(committed, tmp_path):
    toy = committed.copy(tmp_path / "project")
    short = toy.run("git", "show", f"{toy.experiments()['short']}:metrics/test.json")
    workspace, short = (json.loads(x)["accuracy"] for x in (toy.read("metrics/test.json"), short))
    with typed(toy.folder, "app"):
        assert app.list_models() == {"workspace": workspace, "short": short}
        (toy.folder / "metrics/test.json").unlink()
        assert app.list_models() == {"workspace": None, "short": short}


@pytest.mark.parametrize("port", [None, "65536"])
def test_a_port_that_can_not_be_used_is_named(page, port):
    address, _, repository = page
    port = port or address.rpartition(":")[2]  # which is taken
    output = repository.python("tools.app", "--port", port, status=1)
    assert output.startswith(f"app: port {port} can't be used (") and output.count("\n") == 1


def test_another_host_gets_no_answer(page):
    """As for a page on the web whose host name leads to this machine."""
    request = urllib.request.Request(f"{page[0]}/models", headers={"Host": "evil.example"})  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)  # noqa: S310


@pytest.mark.parametrize(
    ("content", "model", "message"),
    [
        (b"x" * (app.MAX_BYTES + 1), "workspace", "the picture is larger than 20,000,000 bytes"),
        (b"x", "workspace", "not a picture"),
        (b"x", "nowhere", "there is no revision nowhere"),
    ],
)
def test_what_can_not_be_answered_is_a_sentence(committed, content, model, message):
    with typed(committed.folder, "app"), pytest.raises(UserError, match=message):
        app.answer(content, model)
