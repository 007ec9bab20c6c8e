# `make` sets up and runs the pipeline; `make help` lists the rest of the menu.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE := 1# why: the head of dvc.yaml

.PHONY: all experiments sweep report check noise verify portable fsck predict bench readme demo test lint audit help

all: $(BIN)/installed ## Rebuild whatever changed, then run and compare the experiments
	$(BIN)/python -m tools.rebuild

experiments: $(BIN)/installed ## Run and compare the experiments of experiments.yaml; ARGS="--seeds 5" or ARGS="--group models"
	$(BIN)/python -m tools.experiments $(ARGS)

sweep: $(BIN)/installed ## Search for good params, as experiments.yaml says; ARGS="--apply" takes the best over
	$(BIN)/python -m tools.experiments.sweep $(ARGS)

report: $(BIN)/installed ## Compare the experiments on one page, report.html; ARGS="run-1 run-3"
	$(BIN)/python -m tools.report $(ARGS)

check: $(BIN)/installed ## Fail where metrics got worse than noise explains; ARGS="--baseline REV"
	$(BIN)/python -E -s -m tools.gate.check $(ARGS)

noise: $(BIN)/installed ## Measure how much metrics vary over seeds, for check
	$(BIN)/python -m tools.gate.noise $(ARGS)

verify: $(BIN)/installed ## Rebuild a commit in a clone, from the raw data, and compare every output; ARGS=REV
	$(BIN)/python -m tools.gate.verify $(ARGS)

portable: $(BIN)/installed ## Compare this CPU's bytes with those of emulated ones; takes a quarter of an hour
	$(BIN)/python -m bench.portable $(ARGS)

fsck: $(BIN)/installed ## Find and remove corrupted files in DVC's cache; ARGS="--all" reads all of it
	$(BIN)/python -m tools.fsck $(ARGS)

predict: $(BIN)/installed ## Classify a picture; ARGS="shirt.jpg --plot chart.png" or ARGS="--test 0"
	$(BIN)/python -m tools.predict $(ARGS)

bench: $(BIN)/installed ## Measure the speed, against a plain script; takes 25 minutes; ARGS="--only commands"
	$(BIN)/python -m bench.speed $(ARGS)

readme: $(BIN)/installed ## Put the current numbers into README.md, docs/ and the model card
	$(BIN)/python -m tools.report.readme

demo: $(BIN)/installed ## The same pipeline on synthetic data, where the real data is out of reach
	$(BIN)/python -m tools.demo

test: $(BIN)/installed-dev ## Run the tests
	$(BIN)/python -m pytest --durations=10 $(ARGS)

lint: $(BIN)/installed-dev ## Check style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

audit: $(BIN)/installed-dev ## Look the pinned packages up among known vulnerabilities
	$(BIN)/pip-audit --require-hashes --disable-pip --requirement requirements.txt

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/installed: requirements.txt
	@git rev-parse --quiet --verify HEAD >/dev/null 2>&1 || { echo "This folder is no Git repository with a commit, and DVC needs one. \
	Either git clone the project, or: git init && git add -A && git commit -m first"; exit 1; }
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit(f"This needs Python 3.11, 3.12 or 3.13, \
	$(PYTHON) is {sys.version.split()[0]}. Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(BIN)/installed-dev: requirements/dev.txt $(BIN)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@
