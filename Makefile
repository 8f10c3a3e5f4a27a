# Needs make and Python 3.11 or newer; no Docker, no root. `make` alone lists the targets.
#   make VENV=somewhere PYTHON=python3.12 setup     another environment, another interpreter
#   make JOBS=8 test                                 more tests at once
#   make FAULTS='--seeds 4 --mock --seconds 600' faults   one seed of the campaign, ten minutes
#   make BENCH='--events 80000 --repeats 1' bench    a quick look

VENV ?= .venv
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python,$(shell \
	command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BIN := $(VENV)/bin
READY := $(VENV)/.leadline-ready
PYTEST := $(BIN)/python -m pytest -q
# Tests at once; more than two on two cores, because many wait for a broker.
JOBS ?= 4

.PHONY: help setup demo test check lint types slow faults kafka-up kafka-down bench docs clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(READY) ## a virtual environment with everything, in .venv

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3 setup"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
# Modules are compiled when they are first imported: most never are.
	@echo "installing Leadline and what it needs into $(VENV), once: about a minute"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[dev]'
	@touch $@

demo: setup ## a hospital's model, failures injected one after another, alerts live
	$(BIN)/leadline demo

test: check ## lint, types and all tests; those on real Kafka and Redis where Java, Maven and redis-server are there
	$(PYTEST) -m "not slow" -n $(JOBS) --dist worksteal

check: lint types ## lint and types alone

lint: setup
	$(BIN)/python -m ruff check .

types: setup
	$(BIN)/python -m mypy

slow: setup ## the tests that take minutes each, on real Kafka and Redis: workers killed twenty times, safeguards taken away
	$(PYTEST) -m slow

faults: setup ## the campaign: seeds of kills, pauses and outages under load, then the table in docs/reliability.md
	$(BIN)/python -m tests.faults $(FAULTS)

kafka-up: setup ## a real Apache Kafka and Redis on loopback, for the tests marked kafka
	$(BIN)/python -m tests.real up

kafka-down: setup ## stop both
	$(BIN)/python -m tests.real down

bench: setup ## events per second beside other engines, on an Apache Kafka and a Redis that it brings up itself
	$(BIN)/python -m benchmarks.pipeline $(BENCH)

docs: setup ## write what is written from the code: docs/configuration.md and docs/schemas
	$(BIN)/python -m leadline.config_docs
	$(BIN)/python -m leadline.schemas

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
