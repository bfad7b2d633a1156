# `make demo` runs the demo study and writes its report; `make test` runs the test suite; `make test-all` also its slow
# tests, which kill runs wherever that can be done. All set up first.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
SPREAD := --numprocesses auto --maxprocesses 8 --dist worksteal

.PHONY: setup demo test test-all check clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

demo: setup
	$(PY) -m scaling +sweeps=demo
	$(PY) -m analysis report runs/demo

test: setup
	$(PY) -m pytest $(SPREAD)

test-all: setup
	$(PY) -m pytest $(SPREAD) -m ""

check: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
