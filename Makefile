# Thin: each target is a line or two of commands that you could type yourself.
# The first `make demo` or `make test` makes .venv and installs into it (1 to 3 minutes).

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# `make test LOCKED=1` installs by .ci/locks, with hashes; as CI does.
# `make test PYTHON=python3.12` chooses the interpreter; otherwise the first that is new enough.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& { echo $$python; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help demo test test-reliability check format bench clean

help:    ## This list
	@awk -F ':.*## ' '/^[a-z-]+: *.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)    ## Video to goals reached, on a CPU, in a few minutes
	$(BIN)/python -m jepa demo

test: $(INSTALLED)    ## All tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-reliability: $(INSTALLED)    ## Faults at full size: kills, damage, poison, deadlines; ten minutes
	LONG_TESTS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal \
	    tests/reliability

check: $(INSTALLED)    ## What the continuous integration asks besides the tests
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(INSTALLED)    ## Format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)    ## Ratios of two things measured in one run, and how exact we are
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/augmentation.py
	$(BIN)/python benchmarks/pretraining_step.py
	$(BIN)/python benchmarks/recipes.py
	$(BIN)/python benchmarks/rollout_cache.py
	$(BIN)/python benchmarks/encoder_transformers.py
	$(BIN)/python benchmarks/official_parity.py

clean:    ## Remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.10 or newer is needed; install one, or say which: make test PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(if $(LOCKED),.ci/install-locked $(VENV) dev,$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]")
	@touch $@
