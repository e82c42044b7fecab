# make demo — train, evaluate and report on the embedded corpus.  make test — what has to pass.
PYTHON ?= python3
BIN := .venv/bin
SPEC := pyproject.toml constraints.txt Makefile

.PHONY: help venv demo test test-all lint clean
help:
	@echo "make demo      train on the embedded corpus for four minutes, write runs/demo/report.html"
	@echo "make test      ruff, pyright and the default tests"
	@echo "make test-all  the same with the slow tests"
	@echo "make lint      ruff and pyright only"
	@echo "make venv      .venv with the package"
	@echo "make clean     remove .venv, caches and builds (runs/ is kept)"

.venv/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not found. Install Python 3.11 or newer, or say which: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old: diptych needs 3.11 or newer. Say which: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make environments. On Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/installed: .venv/python $(SPEC)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/tested: .venv/python $(SPEC)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch .venv/installed $@

venv: .venv/installed

demo: .venv/installed
	$(BIN)/diptych demo --out runs/demo

lint: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m ''

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
