# Everything a contributor runs; .ci/run calls the same targets. Needs Python 3.11+ and make, nothing else.

SF ?= 1
PYTHON ?= python3
# More than cores: a worker waits for functions, leases and locks for a good part of its time.
TEST_JOBS ?= 3
TEST_ARGS ?=
DEMO_ARGS ?=
CHECKOV ?= checkov>=3.3.30,<3.4

VENV := .venv
BIN := $(VENV)/bin

# pyright comes with its own node (wheel) and must not ask the network for a newer version of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
# Bytecode is kept, whatever the environment says: the tests and the demo start hundreds of interpreters, and each would
# compile the same thousand modules anew.
export UV_COMPILE_BYTECODE = 1
unexport PYTHONDONTWRITEBYTECODE
# A polars panic shall be one line, not a Rust backtrace.
export RUST_BACKTRACE = 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench bench-smoke policy terraform-docs e2e clean

help: ## Say what the targets do.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/'

setup: $(VENV)/.stamp ## Install Frazil and its tools, as locked, into .venv.

$(VENV)/.stamp: pyproject.toml uv.lock
	@if uv --version >/dev/null 2>&1; then \
		uv sync --all-extras --locked; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv; \
		$(BIN)/uv sync --all-extras --locked --inexact; \
	fi
	@touch $@

demo: setup ## TPC-H on a real S3 server, distributed and checked against Polars. SF=0.1 is quick, SF=1 is 1 GB.
	$(BIN)/python -m benchmarks.demo --scale $(SF) $(DEMO_ARGS)

test: setup ## Every test that does not take minutes; warnings are errors.
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

lint: setup ## ruff, mypy, pyright and the import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

policy: setup .policy/.stamp ## Checkov's policies over terraform/ and every overlay of knative/.
	PYTHONPATH=.:tests $(BIN)/python -m support.policies .policy/bin/checkov

# A tool of its own: what it pins would hold back everything else.
.policy/.stamp: Makefile
	@if uv --version >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing .policy && uv pip install --quiet --python .policy/bin/python '$(CHECKOV)'; \
	else \
		test -x .policy/bin/python || $(PYTHON) -m venv .policy; \
		.policy/bin/python -m pip install --quiet '$(CHECKOV)'; \
	fi
	@touch $@

terraform-docs: setup ## Write the tables of terraform's READMEs anew, from its files.
	PYTHONPATH=.:tests $(BIN)/python -m support.terraform_docs

e2e: setup ## The suite for a real cluster: see docs/deploy.md for the variables that it reads.
	$(BIN)/python -m pytest tests/e2e/test_cluster.py -m slow -o timeout=3600 -v $(TEST_ARGS)

format: setup ## Let ruff mend what it can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## The measurements behind the figures in the docs.
	$(BIN)/python -m benchmarks.import_time

bench-smoke: setup ## The regression gate: counts and ratios against benchmarks/smoke_limits.json, in a minute.
	$(BIN)/python -m benchmarks.smoke

clean: ## Remove what the targets made, but not .venv.
	rm -rf .policy .demo .frazil .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
