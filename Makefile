# Two commands matter: make demo, make test. Both make the environment when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check install chaos

demo: $(STAMP)
	$(BIN)/evenkeel demo

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Evenkeel needs Python 3.11 or newer; set PYTHON=")'
	@echo "Installing into $(VENV): some minutes, most of it torch."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# The fast part: style, types, import rules, every test that needs no model and kills nothing.
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m "not model and not chaos" --timeout 120 -n 4

# Everything: the fast part, some kills, then the whole loop on the real model.
test: check
	$(BIN)/pytest -q -m chaos --timeout 300
	$(BIN)/pytest -q -m model

# 1,000 random kills under load, then one at every write, sync, rename and removal. About an hour.
chaos: $(STAMP)
	$(BIN)/python -m benchmarks.chaos
