.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
EXPERIMENT ?= rgcnn_rotmnist
ARGS ?=
# one thread per test process: the suite runs on all cores side by side
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto

.PHONY: help setup train test test-fast lint format bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

setup: $(INSTALLED) ## create the environment in .venv (the other targets do so when it is missing)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

train: $(INSTALLED) ## train the relaxed G-CNN on rotated digits (EXPERIMENT=..., ARGS="seed=1 ...")
	$(RUN) src/train.py experiment=$(EXPERIMENT) $(ARGS)

test: $(INSTALLED) ## run all tests
	$(PYTEST) $(ARGS)

test-fast: $(INSTALLED) ## run the tests that take no more than seconds
	$(PYTEST) -m "not slow" $(ARGS)

lint: $(INSTALLED) ## check style
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(INSTALLED) ## rewrite files in the project's style
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(INSTALLED) ## run the benchmarks
	$(RUN) -m pytest --benchmark-only -m "slow or not slow" $(ARGS)

clean: ## remove the environment, caches and outputs (data and logs stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache .benchmarks *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
