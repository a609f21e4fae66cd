# Two commands do all the set-up: `make demo` and `make test`. Both work in a bare clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check lint format results docker clean

demo: $(VENV)/.base  ## route real prompts with the embedded default, then call a model over HTTP
	$(BIN)/python -m examples.demo

test: $(VENV)/.dev  ## install everything and run every test
	$(BIN)/python -m pytest

check: lint test  ## what CI runs: format, lint, types, floors, tests

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

results: $(VENV)/.dev  ## regenerate docs/results.md (minutes; needs the benchmark files, see docs/evaluation.md)
	$(BIN)/python -m research.results_page

docker:  ## build the server's image
	docker build --tag routellm-core .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(VENV)/bin/python pyproject.toml
	$(PIP) --editable .
	touch $@

# torch first and pinned: an open range would pull the build with gigabytes of CUDA libraries.
$(VENV)/.dev: $(VENV)/bin/python pyproject.toml $(wildcard integrations/*/pyproject.toml)
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[dev]' $(foreach folder,$(dir $(wildcard integrations/*/pyproject.toml)),--editable '$(folder)[dev]')
	touch $@ $(VENV)/.base
