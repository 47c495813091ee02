# `make reproduce` and `make test` need Python 3.11 and nothing else: both set up .venv first.
PYTHON ?= python3
VENV := .venv
HVD := $(VENV)/bin/hvd
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup reproduce table test check bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## make .venv with everything installed

$(READY): pyproject.toml
	@echo "installing into $(VENV): 6 GB, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

reproduce: $(READY) ## the main job on the built-in world, ending in the table
	$(HVD) reproduce --recipe mini --nuscenes world --semkitti world

table: $(READY) ## baselines, label fractions, seeds: hours; goes on from docs/results
	$(HVD) table --recipe mini
	$(HVD) report --out docs/results/report.md

test: $(READY) ## all tests, on the CPU
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

check: $(READY) ## lint, types, import layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(READY) ## ratios against plain implementations, written to docs/performance.md
	$(VENV)/bin/python -m tests.bench.run

clean: ## remove the environment and caches; artifacts in .hvd stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist *.egg-info
