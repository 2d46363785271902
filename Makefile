# Everything a fresh machine needs: Python 3.11+ with venv, git and make.
#   make demo    set up, then from nothing to a segmented volume and a page of figures
#   make test    set up, then style, types, floors and tests
# TORCH_INDEX=URL  where pip looks for PyTorch first, for its smaller CPU build (see README)

PYTHON ?= python3
VENV   ?= .venv
TORCH_INDEX ?=
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: help setup demo test check test-slow clean
help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("densem needs Python 3.11 or newer, found %d.%d: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.made constraints.txt
	@echo "Installing PyTorch (some minutes) ..."
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.densem: $(VENV)/.torch pyproject.toml
	@echo "Installing densem and what it needs ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.densem
	@echo "Installing what the tests need ..."
	$(PIP) -e '.[dev]'
	@touch $@

setup: $(VENV)/.densem

demo: setup
	$(BIN)/densem demo demo

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf $(VENV) demo
