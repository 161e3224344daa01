# python3 (3.11 or later) and make are all this assumes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE ?= results
SEED ?= 0
# Two processes, of which one has all tests that start Ray.
PYTEST_PROCESSES ?= -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: help demo test lint test-slow test-gpu chaos fuzz clean \
	bench bench-battery bench-cells bench-ray bench-driver bench-recording bench-mlflow bench-packs bench-gpu bench-power \
	bench-fits bench-approximation
.DEFAULT_GOAL := help

help:  ## Show what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/installed  ## Train the quickstart study and write its report (about a minute on 2 cores, once installed).
	$(BIN)/hyperscale run studies/quickstart.py --store $(STORE)
	$(BIN)/hyperscale report studies/quickstart.py --store $(STORE)

test: lint  ## Lint, check types and imports, and run the default tests.
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_PROCESSES)

lint: $(VENV)/installed  ## ruff, mypy --strict, import floors.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: $(VENV)/installed  ## The tests that take minutes.
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/installed  ## More than ten thousand mutated inputs, counted by how they ended (about 15 minutes; SEED=n for others).
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 HYPERSCALE_FUZZ=20 $(BIN)/python -m pytest tests/fuzz --timeout 3000 --hypothesis-seed $(SEED)

test-gpu: $(VENV)/installed  ## The tests that need a CUDA device.
	$(BIN)/python -m pytest -m gpu

$(VENV)/bench-installed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,bench]'
	touch $@

bench: bench-cells bench-ray bench-recording  ## Packs against what users would otherwise do (under 10 minutes).

bench-cells: $(VENV)/bench-installed  ## A step of one trial: packs against eager loops, on the CPU.
	$(BIN)/python -m tests.bench.cells

bench-ray: $(VENV)/installed  ## A grid of small trials through Ray: packs against one trial at a time.
	$(BIN)/python -m tests.bench.ray_grid

bench-packs: $(VENV)/installed  ## The quickstart through Ray: packs against one stock function trial each.
	$(BIN)/python -m tests.bench.packs

bench-gpu: $(VENV)/installed  ## A step of one trial on a CUDA device (needs torch and numpy only).
	$(BIN)/python -m tests.bench.gpu

bench-driver: $(VENV)/installed  ## What 100,000 trials cost the driver; writes tests/bench/driver.md (about 8 minutes).
	$(BIN)/python tests/bench/driver.py

bench-battery: $(VENV)/installed  ## Coverage of intervals and wrong verdicts on studies of known exponents (about 3 minutes).
	$(BIN)/python -m tests.bench.battery

bench-recording: $(VENV)/installed  ## Recording in MLflow against Ray Tune's callback (about a minute).
	$(BIN)/python -m tests.bench.recording

bench-mlflow: $(VENV)/installed  ## 10,000 trials in PostgreSQL, 32 drivers at once; writes tests/bench/mlflow_scale.md (about 5 minutes).
	$(BIN)/python -m tests.bench.mlflow_scale

bench-power: $(VENV)/installed  ## Octaves of N that verdicts need, simulated; writes tests/bench/power.md (under a minute).
	$(BIN)/python -m tests.bench.power

bench-approximation: $(VENV)/installed  ## Fits against exact infima and a SciPy loop; writes tests/bench/approximation.md (about 12 minutes).
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.approximation_gap
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.approximation_speed | tee -a tests/bench/approximation.md

CHAOS_FAULTS ?= 100
CHAOS_SEED ?= 1
chaos: $(VENV)/installed  ## Random faults on a study over three Ray nodes; writes tests/chaos/README.md (an hour).
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.chaos --faults $(CHAOS_FAULTS) --seed $(CHAOS_SEED)

clean:  ## Remove the virtual environment and caches; results stay.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info

FITS ?=
bench-fits: $(VENV)/installed  ## Fits, exponents and power against known answers; FITS=folder of their tables (about 10 minutes).
	@test -n "$(FITS)" || { echo "Give the folder of the tables: make bench-fits FITS=FOLDER (tests/bench/README.md says which)."; exit 2; }
	$(BIN)/python -m tests.bench.exact $(FITS)
	$(BIN)/python -m tests.bench.chinchilla $(FITS)/chinchilla_replication.csv
	$(BIN)/python -m tests.bench.extrapolation $(FITS)/extrapolation_vision.csv
	$(BIN)/python -m tests.bench.battery
	$(BIN)/python -m tests.bench.power
