"""A user's variables, home folder and Git settings change no result.

docs/reliability.md lists what these tests try.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.support.repository import PROJECT, STAGES, Repository
from tools.process import user_env

LIBRARIES = {  # set_environment removes them
    "CUDA_VISIBLE_DEVICES": "0",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "HDF5_USE_FILE_LOCKING": "BEST_EFFORT",
    "KERAS_BACKEND": "torch",
    "KERAS_HOME": "{home}/.keras",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KMP_BLOCKTIME": "0",
    "MATPLOTLIBRC": "{home}/.config/matplotlib/matplotlibrc",
    "MKL_NUM_THREADS": "2",
    "MPLBACKEND": "nonsense",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "NVIDIA_TF32_OVERRIDE": "1",
    "OMP_NUM_THREADS": "2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "TF2_BEHAVIOR": "0",
    "TF_DETERMINISTIC_OPS": "0",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTEROP_THREADS": "3",
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
}
PYTHON = {  # `python -Es`, as in dvc.yaml, ignores them
    "PYTHONHASHSEED": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": "{home}/packages",
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "error",
}
OTHERS = {
    "ARITHMETIC": "native",
    "COLUMNS": "20",
    "LC_ALL": "C",
    "SOURCE_DATE_EPOCH": "1",
    "TZ": "Pacific/Auckland",
}
GIT = {"GIT_DIR": "{home}/elsewhere", "GIT_INDEX_FILE": "{home}/index", "GIT_WORK_TREE": "{home}"}
FAILS = "raise SystemExit('a package of the user')\n"
HOME = {  # files in the home folder
    ".keras/keras.json": '{"floatx": "float16", "epsilon": 0.1, "backend": "torch",'
    ' "image_data_format": "channels_first"}',
    ".config/matplotlib/matplotlibrc": "font.size: 30\nsavefig.dpi: 20\n",
    ".local/lib/python{python}/site-packages/sitecustomize.py": FAILS,
    ".local/lib/python{python}/site-packages/pandas.py": FAILS,
    "packages/numpy.py": FAILS,
    "packages/keras.py": FAILS,
    ".gitconfig": "[core]\n autocrlf = true\n hooksPath = {home}/hooks\n splitIndex = true\n"
    " attributesFile = {home}/attributes\n excludesFile = {home}/ignore\n"
    "[feature]\n manyFiles = true\n"
    '[filter "upper"]\n smudge = tr a-z A-Z\n clean = tr A-Z a-z\n required = true\n'
    "[init]\n templateDir = {home}/template\n[diff]\n noprefix = true\n context = 0\n"
    "[status]\n showUntrackedFiles = no\n[commit]\n gpgSign = true\n",
    "attributes": "*.py filter=upper\n",
    "ignore": "*.py\n*.csv\n*.json\n",
    "template/hooks/post-checkout": "#!/bin/sh\nexit 1\n",
    "hooks/post-checkout": "#!/bin/sh\nexit 1\n",
    "hooks/pre-commit": "#!/bin/sh\nexit 1\n",
    ".config/dvc/config": "[exp]\n auto_push = true\n[core]\n autostage = true\n",
}


@pytest.fixture
def home(tmp_path) -> Path:
    """Return a home folder with all of these files."""
    folder = tmp_path / "home"
    version = ".".join(sys.version.split(".")[:2])
    for name, content in HOME.items():
        path = folder / name.format(python=version)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("{home}", str(folder)))
        path.chmod(0o755)
    return folder


@pytest.mark.slow
def test_plain_dvc_in_a_clone_on_one_core_writes_the_same_bytes(repository, home, tmp_path):
    """Its batches of 36 leave rows over when threads share them."""
    clone = repository.clone(tmp_path / "clone")
    settings = LIBRARIES | OTHERS | {"HOME": "{home}", "ARITHMETIC_THREADS": "4"}
    foreign = {name: value.format(home=home) for name, value in settings.items()}
    words = ("taskset", "--cpu-list", "0", sys.executable, "-m", "dvc", "repro")
    assert clone.run(*words, "--force", **foreign).count("Running stage") == len(STAGES)
    assert clone.results() == repository.results()
    assert "Running stage" not in clone.dvc("repro")
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_commands_work_in_a_hook_with_hostile_settings_of_git_and_dvc(built_record, home, tmp_path):
    """They leave HEAD and the index as they are, and push nothing."""
    project, remote = Repository(built_record).copy(tmp_path / "project"), home / "remote.git"
    project.set("experiments={another: {train.epochs: 1, seed: 5}}")
    project.commit("Another experiment")
    project.run("git", "init", "--quiet", "--bare", str(remote))
    project.run("git", "remote", "add", "origin", str(remote))
    before = project.run("git", "for-each-ref", "refs/heads")
    settings = PYTHON | GIT | {"HOME": "{home}", "SHELL": "/usr/sbin/nologin", "BASH_ENV": "/gone"}
    hostile = {name: value.format(home=home) for name, value in settings.items()}
    run = (sys.executable, "-BEs", "-m")
    assert "another: completed" in project.run(*run, "tools.experiments", **hostile)
    check = (*run, "tools.gate.check", "--baseline", "HEAD~1", "--seeds", "1")
    report = project.run(*check, status=None, **hostile)
    assert "Means of 5 runs of the baseline and 1 run of the candidate" in report
    assert project.run("git", "for-each-ref", "refs/heads") == before
    assert project.run("git", "symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert project.run("git", "diff", "--cached", "--name-only") == ""
    assert not list(remote.glob("refs/exps/**/*"))


def test_the_page_on_reliability_lists_every_setting():
    page = (PROJECT / "docs/reliability.md").read_text(encoding="utf-8")
    names = [*LIBRARIES, *PYTHON, *OTHERS, *GIT, *(name for name in HOME if name[0] == ".")]
    missing = [name for name in names if name.replace("{python}", "3.X") not in page]
    assert len(names) >= 40 and missing == []


def test_only_variables_for_access_reach_child_processes(monkeypatch):
    foreign, own = LIBRARIES | PYTHON | GIT, {"DVC_STUDIO_TOKEN", "GIT_SSH_COMMAND"}
    foreign |= {"ARITHMETIC": "native", "ARITHMETIC_THREADS": "2"}
    for name in foreign.keys() | own:
        monkeypatch.setenv(name, foreign.get(name, "native"))
    monkeypatch.setattr("getpass.getuser", lambda: {}["this user id has no name"])
    assert user_env().keys() & (foreign.keys() | own) == own
    assert user_env()["HOME"] == os.environ["HOME"] and user_env()["GIT_ATTR_NOSYSTEM"] == "1"
    assert user_env()["LOGNAME"].startswith("user-")
