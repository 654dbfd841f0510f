# `make demo` and `make test` need nothing but Python 3.10 to 3.13: both make a virtual environment
# in .venv unless one is active.
PYTHON ?= python3
BIN := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)/bin
STAMP := $(BIN)/.tfprune-installed
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Neighbours stay together as long as both have work: files share what they train.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo demo-fast test test-slow fuzz check lint types docs install

demo: install
	$(BIN)/tfprune demo

demo-fast: install
	$(BIN)/tfprune demo --fast

# Each fit leaves some megabytes behind in TensorFlow, so the tests of fits have processes of their own.
FITS := tests/callbacks tests/fit tests/wrappers

REPORT := --cov --cov-append --cov-report=term-missing:skip-covered

# All but what is slow on TensorFlow, half of it on JAX; of the many tests that train or compile whole
# models (marked `sampled`) a sample on each.
# `COVERAGE=1` prints at the end of the second part which lines no test has run on TensorFlow.
SAMPLE := --part sample
test: install
	$(PYTEST) $(SAMPLE) $(if $(COVERAGE),--cov --cov-report=) $(FITS)
	$(PYTEST) $(SAMPLE) $(if $(COVERAGE),$(REPORT)) $(addprefix --ignore ,$(FITS))
	KERAS_BACKEND=jax $(PYTEST) $(SAMPLE) -m "not tensorflow_only"

# The rest: what is slow and worth it, what the samples leave out, and many random models. With
# `LIMIT=600` each of the three parts skips what it has not begun after so many seconds, and says so;
# each day it begins at another test.
REST := --part rest --hypothesis-profile many $(if $(LIMIT),--within $(LIMIT) -rs)
test-slow: install
	$(PYTEST) $(REST) $(FITS)
	$(PYTEST) $(REST) $(addprefix --ignore ,$(FITS))
	KERAS_BACKEND=jax $(PYTEST) $(REST) -m "not tensorflow_only"

# N random models and masks on each backend, drawn anew each time: rebuilt equals masked?
N ?= 1000
FUZZ := tests/rebuild/test_exactness.py -k equals_masked --hypothesis-profile fuzz --hypothesis-show-statistics
fuzz: install
	N=$(N) $(BIN)/python -m pytest $(FUZZ)
	N=$(N) KERAS_BACKEND=jax $(BIN)/python -m pytest $(FUZZ)

# Before a commit, in two minutes: format, lint, types, and the fast tests of what differs from main, on
# both backends side by side; tests that have not begun after 80 seconds are skipped.
check: lint
	@tests=$$($(BIN)/python -m tests.changed) && if [ -n "$$tests" ]; then \
		$(BIN)/python -m pytest -m "not slow" --within 80 -rfEs --dist each \
		--tx popen//env:KERAS_BACKEND=tensorflow --tx popen//env:KERAS_BACKEND=jax $$tests; fi

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory types

types: install
	@mkdir -p .mypy_cache/tfprune && ln -sfn ../../callbacks .mypy_cache/tfprune/callbacks
	$(BIN)/mypy

# The site in build/site: guides, API, results, papers, notebooks. A broken link is an error, but not
# with --quiet, where MkDocs does not count its warnings.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(STAMP)

$(STAMP): setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv
