# `make` sets up and runs the pipeline; `make help` lists the other commands.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -BEs -m# the head of dvc.yaml says why
INSTALL := PIP_USER=0 PIP_CONSTRAINT=/dev/null PIP_TARGET= PIP_PREFIX= $(BIN)/python -Es -m pip install --quiet --require-hashes
$(if $(findstring $$,$(value ARGS)),$(error ARGS has a $$, which make and the shell would replace: call the module yourself))
$(shell test -L .venv || { test -x $(BIN)/python && grep -qsxF "$$(pwd -P)" $(BIN)/installed; } || rm -f $(BIN)/installed)# set up again if the folder was moved or its Python has gone

.PHONY: all experiments sweep report check noise verify portable fsck predict app bench readme demo test lint audit help

all: $(BIN)/installed ## Rebuild what changed, run and compare the experiments
	$(RUN) tools.rebuild

experiments: $(BIN)/installed ## Run and compare experiments; ARGS="--seeds 5"
	$(RUN) tools.experiments $(ARGS)

sweep: $(BIN)/installed ## Search for good params; ARGS="--apply" takes the best
	$(RUN) tools.experiments.sweep $(ARGS)

report: $(BIN)/installed ## Compare on one page, report.html; ARGS="run-1 run-3"
	$(RUN) tools.report $(ARGS)

check: $(BIN)/installed ## Fail if metrics got worse; ARGS="--baseline REV"
	$(RUN) tools.gate.check $(ARGS)

noise: $(BIN)/installed ## Measure how much metrics vary over seeds, for check
	$(RUN) tools.gate.noise $(ARGS)

verify: $(BIN)/installed ## Rebuild a commit and compare every output; ARGS=REV
	$(RUN) tools.gate.verify $(ARGS)

portable: $(BIN)/installed ## Compare the bytes of emulated CPUs; 15 minutes or more
	$(RUN) bench.portable $(ARGS)

fsck: $(BIN)/installed ## Remove corrupted files from DVC's cache; ARGS="--all"
	$(RUN) tools.fsck $(ARGS)

predict: $(BIN)/installed ## Classify pictures; ARGS="shirt.jpg" or ARGS="--test 0"
	$(RUN) tools.predict $(ARGS)

app: $(BIN)/installed-app ## Try models on a page in the browser
	$(RUN) tools.app $(ARGS)

bench: $(BIN)/installed ## Measure the speed; 21 minutes; ARGS="--only commands"
	$(RUN) bench.speed $(ARGS)

readme: $(BIN)/installed ## Write the current numbers into README, docs/ and cards
	$(RUN) tools.report.readme

demo: $(BIN)/installed ## Run the pipeline on synthetic data, without a network
	$(RUN) tools.demo

test: $(BIN)/installed-dev ## Run the tests; ARGS="-k sweep" chooses some
	$(RUN) pytest --durations=10 $(ARGS)

lint: $(BIN)/installed-dev ## Check style, docstrings, spelling and common mistakes
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/codespell $$(git ls-files)

audit: $(BIN)/installed-dev ## Look up known vulnerabilities of the pinned packages
	$(RUN) pip_audit --strict --require-hashes --disable-pip $(addprefix --requirement=,$(wildcard requirements.txt requirements/*.txt))

help: ## List these commands; `make check ARGS=--help` says more
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/installed: requirements.txt
	@git rev-parse --verify HEAD >/dev/null || { echo "DVC needs a Git repository with a commit: git clone, or git init and commit"; exit 1; }
	@$(PYTHON) -Es tools/supported.py
	rm -rf .venv && $(PYTHON) -Es -m venv .venv # --clear would empty the folder behind a link
	$(INSTALL) -r requirements.txt
	@pwd -P > $@

$(BIN)/installed-%: requirements/%.txt $(BIN)/installed
	$(INSTALL) -r $<
	@touch $@
