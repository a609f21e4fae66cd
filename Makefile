# Two commands do all the set-up: `make demo` and `make test`. Both work in a bare clone and install exactly what
# requirements/lock.txt names; `make lock` writes that file anew.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# -qq: errors only. A pip that is configured oddly (a find-links folder that is gone …) warns at every package.
PIP_INSTALL = -m pip install -qq --disable-pip-version-check
PIP := $(BIN)/python $(PIP_INSTALL)
LOCKED := $(PIP) --constraint requirements/lock.txt
INTEGRATIONS := $(patsubst %/pyproject.toml,%,$(wildcard integrations/*/pyproject.toml))
PROJECTS := pyproject.toml $(INTEGRATIONS:%=%/pyproject.toml)
ALL_DEV := --editable '.[dev]' $(foreach folder,$(INTEGRATIONS),--editable '$(folder)[dev]')
# Test files share nothing between them, so a file is the unit that is handed to a process.
PYTEST = -m pytest --numprocesses auto --dist loadfile

.PHONY: demo test test-fast test-newest test-oldest check lint format lock results docker clean

demo: $(VENV)/.base  ## route real prompts with the embedded default, then call a model over HTTP
	$(BIN)/python -m examples.demo

test: $(VENV)/.dev  ## install everything and run every test
	$(BIN)/python $(PYTEST)

# The core and the adapters. Not the server, training, evaluation and the command line, nor the examples of the pages.
FAST = tests/test_*.py $(foreach part,adapters backends calibration embeddings metrics providers routers rows,tests/$(part)) \
  integrations --ignore-glob "*/test_docs.py"

test-fast: $(VENV)/.dev  ## what one runs while working: the core and the adapters, without what is slow
	$(BIN)/python $(PYTEST) -m "not slow" --quiet $(FAST)

test-newest:  ## every test on the newest releases that the open ranges admit today; prints them
	$(PYTHON) -m tests.edges newest

test-oldest:  ## every test on the lower bounds; prints them
	$(PYTHON) -m tests.edges oldest

check: lint test  ## what CI runs: format, lint, types, floors, tests

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## resolve every dependency anew into requirements/lock.txt, for Python 3.11 to 3.13
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(PIP_INSTALL) uv
	.venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --no-header \
	  $(foreach name,routellm-core langchain-routellm llama-index-llms-routellm dspy-routellm,--no-emit-package $(name)) \
	  requirements/dev.in --output-file requirements/lock.txt
	rm -rf .venv-lock

results: $(VENV)/.dev  ## regenerate docs/results.md (minutes; needs the benchmark files, see docs/evaluation.md)
	$(BIN)/python -m research.results_page

docker:  ## build the server's image
	docker build --tag routellm-core .

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The build tools come from the lock as well, so nothing is fetched behind pip's back.
$(BIN)/python: requirements/lock.txt
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) hatchling editables
	touch $@

$(VENV)/.base: $(BIN)/python pyproject.toml
	$(LOCKED) --no-build-isolation --editable .
	touch $@

# torch first and pinned: pip then takes the CPU build where a find-links folder offers one, and an open range would
# pull gigabytes of CUDA libraries.
$(VENV)/.dev: $(BIN)/python $(PROJECTS)
	$(LOCKED) torch==2.13.0
	$(LOCKED) --no-build-isolation $(ALL_DEV)
	touch $@ $(VENV)/.base
