# `make` sets up and runs the pipeline; `make help` lists the rest of the menu.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -BEs -m# why: the head of dvc.yaml
INSTALL := PIP_USER=0 PIP_CONSTRAINT=/dev/null PIP_TARGET= PIP_PREFIX= $(BIN)/python -Es -m pip install --quiet --require-hashes
$(if $(findstring $$,$(value ARGS)),$(error ARGS has a $$, which make and the shell would replace: call the module yourself))
$(shell test -L .venv || { test -x $(BIN)/python && grep -qsx "$(CURDIR)" $(BIN)/installed; } || rm -f $(BIN)/installed)# as it was moved, or its Python has gone

.PHONY: all experiments sweep report check noise verify portable fsck predict app bench readme demo test lint audit help

all: $(BIN)/installed ## Rebuild whatever changed, then run and compare the experiments
	$(RUN) tools.rebuild

experiments: $(BIN)/installed ## Run and compare the experiments of experiments.yaml; ARGS="--seeds 5" or ARGS="--group models"
	$(RUN) tools.experiments $(ARGS)

sweep: $(BIN)/installed ## Search for good params, as experiments.yaml says; ARGS="--apply" takes the best over
	$(RUN) tools.experiments.sweep $(ARGS)

report: $(BIN)/installed ## Compare the experiments on one page, report.html; ARGS="run-1 run-3"
	$(RUN) tools.report $(ARGS)

check: $(BIN)/installed ## Fail where metrics got worse than noise explains; ARGS="--baseline REV"
	$(RUN) tools.gate.check $(ARGS)

noise: $(BIN)/installed ## Measure how much metrics vary over seeds, for check
	$(RUN) tools.gate.noise $(ARGS)

verify: $(BIN)/installed ## Rebuild a commit in a clone, from the raw data, and compare every output; ARGS=REV
	$(RUN) tools.gate.verify $(ARGS)

portable: $(BIN)/installed ## Compare this CPU's bytes with those of emulated ones; takes a quarter of an hour
	$(RUN) bench.portable $(ARGS)

fsck: $(BIN)/installed ## Find and remove corrupted files in DVC's cache; ARGS="--all" reads all of it
	$(RUN) tools.fsck $(ARGS)

predict: $(BIN)/installed ## Classify a picture; ARGS="shirt.jpg --plot chart.png" or ARGS="--test 0"
	$(RUN) tools.predict $(ARGS)

app: $(BIN)/installed-app ## Try models on a page in the browser; ARGS="--port 8001"
	$(RUN) tools.app $(ARGS)

bench: $(BIN)/installed ## Measure the speed, against a plain script; takes 25 minutes; ARGS="--only commands"
	$(RUN) bench.speed $(ARGS)

readme: $(BIN)/installed ## Put the current numbers into README.md, docs/ and the model card
	$(RUN) tools.report.readme

demo: $(BIN)/installed ## The same pipeline on synthetic data, where the real data is out of reach
	$(RUN) tools.demo

test: $(BIN)/installed-dev ## Run the tests
	$(RUN) pytest --durations=10 $(ARGS)

lint: $(BIN)/installed-dev ## Check style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

audit: $(BIN)/installed-dev ## Look the pinned packages up among known vulnerabilities
	$(RUN) pip_audit --require-hashes --disable-pip --requirement requirements.txt

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/installed: requirements.txt
	@git rev-parse --verify HEAD >/dev/null || { echo "DVC needs a Git repository with a commit: git clone, or git init and commit"; exit 1; }
	@$(PYTHON) -Es tools/supported.py
	$(PYTHON) -Es -m venv --clear .venv
	$(INSTALL) -r requirements.txt
	@echo "$(CURDIR)" > $@

$(BIN)/installed-%: requirements/%.txt $(BIN)/installed
	$(INSTALL) -r $<
	@touch $@
