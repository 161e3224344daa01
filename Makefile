# python3 (3.11 or later) and make are all this assumes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE ?= results

.PHONY: help demo test lint test-slow test-gpu bench-packs bench-recording clean
.DEFAULT_GOAL := help

help:  ## Show what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/installed  ## Train the quickstart study and write its report (about 2 minutes on 2 cores).
	$(BIN)/hyperscale run studies/quickstart.py --store $(STORE)
	$(BIN)/hyperscale report studies/quickstart.py --store $(STORE)

test: lint  ## Lint, check types and imports, and run the default tests.
	$(BIN)/python -m pytest

lint: $(VENV)/installed  ## ruff, mypy --strict, import floors.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: $(VENV)/installed  ## The tests that take minutes.
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/installed  ## The tests that need a CUDA device.
	$(BIN)/python -m pytest -m gpu

bench-packs: $(VENV)/installed  ## Packs through Ray against one stock function trial each; writes tests/bench/packs.md.
	$(BIN)/python tests/bench/packs.py

bench-recording: $(VENV)/installed  ## Recording in MLflow against Ray Tune's callback; writes tests/bench/recording.md.
	$(BIN)/python tests/bench/recording.py

clean:  ## Remove the virtual environment and caches; results stay.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
