"""Try models on a page that only this machine can open: `make app`, then http://127.0.0.1:8000.

It also answers programs:
curl --data-binary @shirt.jpg "http://127.0.0.1:8000/predict?model=run-3"
"""

import base64
import io
import json
import socket
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fashion.core.errors import UserError
from fashion.preprocessing import preprocess_image, read_picture
from tools.arguments import parser_of, positive_int
from tools.dvc import commits_with_experiments, resolve_revision
from tools.experiments.results import exclude_sweep_trials
from tools.git import file_at, head
from tools.predict import classify, dataset_at, model_file
from tools.process import command_line

HOST, PAGE, METRICS = "127.0.0.1", Path(__file__).with_suffix(".html"), "metrics/test.json"
WORKSPACE = "workspace"  # the name of its model
MAX_BYTES = 20_000_000  # of a picture


def list_models() -> dict[str, float | None]:
    """Return the test accuracy, None if unknown, of the workspace's and the experiments' models."""
    accuracies, commit = {}, next(iter(commits_with_experiments()), head())
    for name, revision in ({WORKSPACE: None} | exclude_sweep_trials(commit)).items():
        accuracies[name] = None
        with suppress(OSError, UserError, ValueError, KeyError):
            content = file_at(revision, METRICS) if revision else Path(METRICS).read_bytes()
            accuracies[name] = json.loads(content)["accuracy"]
    return accuracies


def answer(content: bytes, model: str) -> dict[str, Any]:
    """Return the probability of each class, what was done to the picture, and what the model sees.

    The last one is a data URL of a PNG. Raises UserError if the picture or the model is wrong.
    """
    if len(content) > MAX_BYTES:
        raise UserError(f"the picture is larger than {MAX_BYTES:,} bytes")
    commit = None if model == WORKSPACE else resolve_revision(model)
    dataset = dataset_at(commit)
    picture = read_picture(io.BytesIO(content), "picture")
    pixels, steps = preprocess_image(picture, dataset)
    row = classify(model_file(commit), [pixels], dataset)[0]
    predictions = {dataset.class_names[i]: float(row[i]) for i in np.argsort(-row)}
    Image.fromarray(pixels).save(png := io.BytesIO(), "PNG")
    seen = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    return {"predictions": predictions, "steps": steps, "seen": seen}


def main() -> None:
    parser = parser_of("app", __doc__)
    parser.add_argument("--port", type=positive_int, default=8000, help="default: 8000")
    port = parser.parse_args().port
    if not find_spec("fastapi"):
        raise UserError("FastAPI is not installed: `pip install -r requirements/app.txt`")
    try:
        listening = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} can't be used ({error}). --port takes another") from None
    import uvicorn
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.responses import FileResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    app.get("/", response_class=FileResponse)(lambda: PAGE)
    app.get("/models")(list_models)

    @app.post("/predict")  # async, so that the server runs one at a time
    async def predict(request: Request, model: str = WORKSPACE) -> dict[str, Any]:
        try:
            return answer(await request.body(), model)
        except UserError as error:
            raise HTTPException(422, str(error)) from None

    print(f"http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])


if __name__ == "__main__":
    with command_line("app"):
        main()
