# `make demo` and `make test` are the two commands of the README; `make` alone lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -e -u -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOG := build/pytest.log

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test lint types spec unit conformance test-embedded test-rabbitmq43 bench format clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

demo: $(VENV)/.installed ## publish to a broker in the process, consume, and print both
	@$(BIN)/python examples/hello.py

test: lint types spec system ## everything that CI checks
	@mkdir -p $(dir $(LOG))
	$(BIN)/python -m pytest -n 2 tests/integration --broker embedded-3.10 2>&1 | tee $(LOG)
	$(BIN)/python -m pytest -n 2 tests/integration --broker embedded-4.3 2>&1 | tee -a $(LOG)
	$(BIN)/coverage run -m pytest 2>&1 | tee -a $(LOG)
	$(BIN)/coverage report
	$(BIN)/coverage report --fail-under=100 --include='txamqpx/protocol/*,txamqpx/spec/*'

lint: $(VENV)/.developed ## format and lint, without changing anything
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(VENV)/.developed ## mypy, strict
	$(BIN)/mypy

spec: $(VENV)/.developed ## the generated modules are what the generator writes
	$(BIN)/python -m txamqpx.spec.codegen --check

unit: $(VENV)/.developed ## the tests that need no broker and build no package
	$(BIN)/python -m pytest -m 'not packaging' --ignore tests/integration

conformance: $(VENV)/.developed ## docs/conformance.md from the tests' marks and the last runs
	$(BIN)/python -m tests.conformance

test-embedded: $(VENV)/.developed ## the integration tests on the embedded broker, as both releases
	$(BIN)/python -m pytest -n 2 tests/integration --broker embedded-3.10
	$(BIN)/python -m pytest -n 2 tests/integration --broker embedded-4.3

test-rabbitmq43: $(VENV)/.developed ## the integration tests on RabbitMQ 4.3, made in a cache folder
	@.ci/system debootstrap
	$(BIN)/python -m pytest tests/integration --broker rabbitmq-4.3

bench: $(VENV)/.developed ## the benchmarks, against the peers that are installed
	$(BIN)/python -m benchmarks

format: $(VENV)/.developed ## format, and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## forget everything that was made
	rm -rf $(VENV) .tox build dist *.egg-info .coverage .conformance.json .hypothesis .mypy_cache .pytest_cache .ruff_cache

# What has to be there first ---------------------------------------------------------------

.PHONY: system
system:
	@.ci/system amqp-specs debootstrap gcc iproute2 libc6-dev procps rabbitmq-server

$(VENV)/.installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; say which: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || .ci/system python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e .
	@touch $@

# Dependency groups need a pip of 2025, and Debian 12 has an older one.
$(VENV)/.developed: $(VENV)/.installed
	$(BIN)/pip install -q -U 'pip>=25.1'
	$(BIN)/pip install -q -e '.[tls]' --group dev
	@touch $@
