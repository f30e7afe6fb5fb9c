# The few commands of this project: `make` lists them. Everything runs in .venv, which `make setup` builds and which
# the other targets build or refresh by themselves when pyproject.toml or constraints.txt have changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

# Options for a target, e.g. `make demo ARGS="--out /data/demo"` or `make test ARGS="tests/data -x"`.
ARGS ?=
# `make bench QUICK=1` finishes each benchmark within a minute.
QUICK ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow soak zoo check format bench wheel lock clean

help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Build .venv with every pinned dependency (PYTHON=python3.12 to choose the interpreter)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: Python 3.11 or newer is needed, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "make: give another one, e.g. 'make setup PYTHON=python3.12'." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP)  ## Everything on a small corpus that it makes itself (ARGS="--help" for options)
	$(BIN)/orchestrator demo $(ARGS)

test: $(STAMP)  ## The tests that take a few minutes
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-slow: $(STAMP)  ## The tests that start real workers or train for a while
	$(BIN)/python -m pytest -m slow --timeout 1200 $(ARGS)

soak: $(STAMP)  ## Kill a run fifty times and compare its end (ARGS="--workers 2" kills Ray workers too)
	$(BIN)/python -m tests.soak $(ARGS)

zoo: $(STAMP)  ## Every kind of checkpoint file: what is read and what is refused (ARGS="-k safetensors" for some)
	$(BIN)/python -m tests.zoo $(ARGS)

check: $(STAMP)  ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Every benchmark (QUICK=1 for a minute each)
	@set -e; for script in benchmarks/[!_]*.py; do \
		test -e "$$script" || continue; \
		echo "== $$script"; $(BIN)/python "$$script" $(if $(QUICK),--quick) $(ARGS); done

wheel: $(STAMP)  ## A wheel and a source archive in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

lock: $(STAMP)  ## Pin every dependency afresh in constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip-tools>=7.4"
	$(BIN)/pip-compile --quiet --upgrade --extra dev --strip-extras --allow-unsafe --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file constraints.txt pyproject.toml

clean:  ## Remove what can be made again, .venv included; runs and data stay
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
