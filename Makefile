# `make demo` and `make test` need nothing but Python 3.10 to 3.13: both make a virtual environment
# in .venv unless one is active.
PYTHON ?= python3
BIN := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)/bin
STAMP := $(BIN)/.tfprune-installed
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo demo-fast test lint install

demo: install
	$(BIN)/tfprune demo

demo-fast: install
	$(BIN)/tfprune demo --fast

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 --dist loadfile -m "not tensorflow_only" \
		tests/structures tests/gates tests/criteria tests/rebuild tests/embeddings tests/callbacks \
		tests/translation tests/test_penalties.py tests/test_schedules.py \
		tests/budgets tests/measuring

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

install: $(STAMP)

$(STAMP): setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv
