# Two commands matter: `make demo` and `make test`. Each sets up what it needs in .venv, in either order.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test test-stack test-wheel env lint types contracts wheel check schemas docs real-stores stores-table clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo    simulate, train, forecast by quorum, verify, trace - on the embedded stack"
	@echo "make test    all tests, on the embedded stack"
	@echo "make test-wheel  nvp demo from the wheel in a clean environment; minutes"
	@echo "make env     .env for docker compose: generated passwords, your uid"
	@echo "make test-stack   the composed stack in containers: up, scale, kill, a sick redis, stop (INSTALL=1: what it needs)"
	@echo "make check   what CI runs: lint, types, contracts, tests"
	@echo "make schemas write schemas/ anew from the code"
	@echo "make docs    write docs/cli.md anew from the code"
	@echo "make real-stores   get Redis 6.2 and 7, and Neo4j, on which the tests of streams, ledger and graph then run too"
	@echo "make stores-table  run those tests on every server and write docs/stores.md"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) (about 1.3 GB, once; a minute or more without a word) ..."
	@$(PIP) install -c constraints.txt pip
	@$(PIP) install -c constraints.txt --build-constraint constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "Installing the test tools ..."
	@$(PIP) install -c constraints.txt --build-constraint constraints.txt -e '.[all]' --group dev
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/nvp demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(ARGS)

test-wheel: $(VENV)/.dev
	@tests/packaging/demo_from_the_wheel.sh --size 32 --budget-j 130

test-stack: $(VENV)/.dev
	@$(BIN)/python tests/stack $(if $(INSTALL),--install) $(ARGS)

env:
	@deploy/env.sh

lint: $(VENV)/.dev
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/mypy

contracts: $(VENV)/.dev
	@$(BIN)/lint-imports --no-logo

wheel: $(VENV)/.dev
	@$(BIN)/python -m build -o dist . >/dev/null && ls dist

schemas: $(VENV)/.dev
	@$(BIN)/python -m nvp_agentkit.messages.schema
	@$(BIN)/python -m nvp_agentkit.streams.asyncapi

docs: $(VENV)/.dev
	@$(BIN)/python -m nvp_agentkit.cli.reference > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

# Fetched once, into .cache/neo4j; needs no .venv. Tests use what is there and say what is not.
real-stores:
	@$(PYTHON) tests/stores/fetch.py

stores-table: $(VENV)/.dev
	@$(BIN)/python -m tests.stores.table $(ARGS)

check: lint types contracts test

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache/xla
