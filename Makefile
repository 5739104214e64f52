# Every target makes .venv itself, once. PYTHON=... picks the interpreter (3.11 to 3.13) that .venv is made with.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Directory with the public traces, prices and profiles; empty: the tests that need them are skipped with the reason.
PROVISOR_DATA ?= $(abspath $(wildcard ../shared/data))
export PROVISOR_DATA

PYTHON ?=
STAMP := .venv/.stamp
BIN := .venv/bin
PYTEST_ARGS ?=
# Two processes, and the tests of a file in one of them, in the order of tests/conftest.py. Live runs keep two cores busy
# by themselves.
TWO_AT_ONCE := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Tests that PYTEST_ARGS names are in one half or the other; 5 says that there was none to run.
OR_NONE = $(if $(PYTEST_ARGS),|| [ $$? -eq 5 ])

.PHONY: help
help: ## print this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)$$/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(STAMP) ## learn, evaluate on unseen days, serve live; says where the report is
	$(BIN)/provisor demo

.PHONY: test
test: $(STAMP) ## all tests but the benchmarks
	$(BIN)/python -X faulthandler -m pytest $(TWO_AT_ONCE) -m "not (live or bench)" $(PYTEST_ARGS) $(OR_NONE)
	$(BIN)/python -X faulthandler -m pytest -m live $(PYTEST_ARGS) $(OR_NONE)

.PHONY: test-fast
test-fast: $(STAMP) ## unit and property tests only
	$(BIN)/python -m pytest $(TWO_AT_ONCE) -m "not (slow or learning or live or bench)" $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMP) ## format, lint and types, all checked and nothing changed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: format
format: $(STAMP) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(STAMP) ## measure speed, print JSON
	$(BIN)/python -m experiments.bench $(BENCH_ARGS)

# constraints.txt changes whenever a dependency does, so it alone says when to install again.
# A name on PATH may be a shim without an interpreter behind it, hence each candidate is run.
$(STAMP): constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
	  for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	    if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	        >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "no Python 3.11, 3.12 or 3.13 with venv found; name one: make PYTHON=/path/to/python3.12" >&2; exit 2; \
	  fi; \
	  echo "making .venv with $$found"; "$$found" -m venv .venv; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	# Only the emulator of Lambda is used of this package; what it requires is not.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/emulator \
	  -c constraints.txt aws-sam-cli
	@touch $@
