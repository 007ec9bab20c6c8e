"""Try models on a page that only this machine can open: `make app` prints its address."""

import os
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fashion.core.errors import UserError
from fashion.core.strict_yaml import read_yaml
from fashion.preprocessing import preprocess_image, read_picture
from tools.arguments import expect_no_arguments
from tools.dvc import commits_with_experiments, resolve_revision
from tools.experiments.results import exclude_sweep_trials
from tools.git import head, yaml_at
from tools.predict import classify, dataset_at, model_file
from tools.process import command_line

HOSTS = ["127.0.0.1", "localhost"]
WORKSPACE = "workspace"  # the name of its model
METRICS = Path("metrics/test.json")


def answer(content: bytes, model: str) -> tuple[np.ndarray, str, dict[str, float]]:
    """Return what a model sees in a picture, notes on both, and the probability of each class.

    What it sees is uint8 (height, width). Raises UserError if the picture or the model is wrong.
    """
    commit = None if model == WORKSPACE else resolve_revision(model)
    dataset = dataset_at(commit)
    metrics = yaml_at(commit, METRICS) if commit else read_yaml(METRICS)  # which includes JSON
    pixels, steps = preprocess_image(read_picture(BytesIO(content), "picture"), dataset)
    row = classify(model_file(commit), [pixels], dataset)[0].tolist()
    accuracy = f"{model} has a test accuracy of {metrics['accuracy']:.1%}"
    return pixels, "\n".join([accuracy, *steps]), dict(zip(dataset.class_names, row, strict=True))


def main() -> None:
    expect_no_arguments("app", __doc__)
    if not find_spec("gradio"):
        raise UserError("Gradio is not installed: `pip install -r requirements/app.txt`")
    with TemporaryDirectory() as folder:  # for uploads; other users can't open it
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        import gradio as gr
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        def predict(path, model):
            try:
                if not (path and Path(path).resolve().is_relative_to(Path(folder).resolve())):
                    raise UserError("upload a picture first")
                pixels, *others = answer(Path(path).read_bytes(), model or WORKSPACE)
            except (UserError, OSError) as error:
                raise gr.Error(str(error), print_exception=False) from None
            return np.kron(pixels, np.ones((8, 8), np.uint8)), *others

        picture = gr.Image(format="png", label="Picture (PNG, JPEG)")
        picture.preprocess = lambda data: data and data.path  # undecoded: `answer` reports errors
        experiments = exclude_sweep_trials(next(iter(commits_with_experiments()), head()))
        model = gr.Dropdown([WORKSPACE, *experiments], label="Model", allow_custom_value=True)
        seen = gr.Image(format="png", buttons=[], label="What the model sees")
        outputs = [seen, gr.Textbox(label="Notes"), gr.Label(label="Classes")]
        title = "Try the model"
        page = gr.Interface(predict, [picture, model], outputs, title=title, flagging_mode="never")
        page.launch(
            server_name=HOSTS[0],
            run_history=False,
            footer_links=["api"],
            max_file_size="20mb",
            theme=gr.themes.Default(font="sans-serif", font_mono="monospace"),  # loads no fonts
            app_kwargs={"middleware": [(TrustedHostMiddleware, [], {"allowed_hosts": HOSTS})]},
        )


if __name__ == "__main__":
    with command_line("app"):
        main()
