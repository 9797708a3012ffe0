# One vocabulary for people, hooks and CI. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
UPGRADE ?=
BENCH ?=
QUICK := $(addprefix health_pipeline_tests/,test_settings.py test_months.py contracts/test_silver.py cohort/test_labels.py \
  features/test_build.py modeling/test_bundle.py promotion/test_decision.py monitoring/test_statistics.py serving/test_api.py \
  deployment/test_history.py warehouse/test_replace.py warehouse/test_io_manager.py notify/test_delivery.py backup/test_archive.py \
  defs/test_definitions.py)
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --custom-compile-command "make lock" $(UPGRADE)

.PHONY: reference mutation help install demo up test test-quick test-slow bench lint format types docs check clean lock upgrade matrix

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(VENV)/.installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	  { echo "error: Python 3.11 to 3.13 is needed as '$(PYTHON)'. On Debian or Ubuntu: sudo apt-get install python3 python3-venv;" \
	  "where python3 is newer, install such a one beside it and name it: make install PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing pinned packages into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	@# The stock IO manager, beside which the tests put ours; its own bound (pandas < 3) is why it comes without dependencies.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps dagster-duckdb-pandas==0.29.27
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(VENV)/.installed ## create .venv from the pinned versions

demo: install ## simulate a hospital, run the whole graph, print a summary
	@$(BIN)/health-pipeline demo

up: install ## Dagster UI and daemon on localhost
	@$(BIN)/health-pipeline up

test: install ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow and not servers"

test-quick: install ## a few files of each room, in a minute or two
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not slow and not servers" $(QUICK)

test-slow: install ## long tests: crash, fuzz, differential, servers where they run
	$(BIN)/python -m pytest -m "slow or servers"

bench: install ## benchmarks of the warehouse, ten minutes; BENCH=--full: an hour; results in benchmarks/results/*.json
	$(BIN)/python -m benchmarks $(BENCH)

mutation: install ## mutants of the promotion rules (hours)
	$(BIN)/python -m mutmut run

lint: install ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## static types
	$(BIN)/mypy

check: lint types test ## style, types and tests; .ci/run is all that CI runs

reference: install ## write docs/reference from the code
	@$(BIN)/health-pipeline reference

docs: install reference ## build the documentation site into site/, strictly
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lock: install ## write the pins anew from what pyproject.toml allows (needs uv in the environment)
	$(COMPILE) --extra dev --extra ducklake pyproject.toml -o $(LOCK)
	$(COMPILE) -c $(LOCK) --extra aws --extra ducklake --extra kubernetes --extra postgres pyproject.toml -o deploy/requirements.lock
	$(COMPILE) --no-emit-package scipy -c $(LOCK) health_pipeline/serving/requirements.in -o health_pipeline/serving/requirements.txt

upgrade: install ## propose the newest pins that the bounds allow, install them beside the present ones, run the suite
	.ci/upgrade

matrix: ## the suite on every Python from 3.11 to 3.13 that is here
	.ci/matrix

clean: ## remove the environment and caches, keep data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
