# Every target prepares what it needs (lab/bootstrap.sh) and may be the first command in a fresh clone.

PY := .venv/bin/python
ARGS :=
# Test processes side by side, three times as many as two cores, because tests also wait. 0: one after another in one process.
WORKERS ?= 6
# Workers that have a Kubernetes cluster each: its tests use a fifth of two cores.
CLUSTERS ?= 2
PYTEST := $(PY) -m pytest $(if $(filter-out 0,$(WORKERS)),-n $(WORKERS) --dist loadscope)

# cnitool, where lab/bootstrap.sh builds it.
export PATH := $(CURDIR)/.cache/bin:$(PATH)

# Start-up is part of what is tested and measured, so compiled modules are kept.
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
.PHONY: help setup root demo test test-all test-kubernetes mutants explore check format format-check lint types test-image bench docs manifests coverage lock clean

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## .venv, Debian packages, Go programs: whatever is missing
	@lab/bootstrap.sh

root:
	@[ "$$(id -u)" = 0 ] || { echo "the lab makes network namespaces: run this as root"; exit 1; }

demo: root ## watch a floating IP move between two availability zones
	@lab/bootstrap.sh demo
	@$(PY) -m lab demo $(ARGS)

test: setup ## the tests, in minutes (ARGS="tests/lab -k route" some, WORKERS=0 one after another)
	$(PYTEST) -m "not thorough and not kubernetes" $(ARGS)

test-all: root test ## the tests, and what is long because it is thorough: crash points, image, bare roots
	$(PYTEST) -m "thorough and not kubernetes" $(ARGS)

test-kubernetes: root setup ## the tests on a real Kubernetes, which it builds first (needs Go; on two idle cores ten minutes, twenty with empty caches)
# Not the end where it fails: the tests say why, and fail or, where Go is absent and CI is not "true", are skipped.
	-@$(PY) -m lab.kubernetes.build
	$(PY) -m pytest $(if $(filter-out 0,$(WORKERS)),-n $(CLUSTERS) --dist loadscope) -m kubernetes tests/kubernetes $(ARGS)

mutants: setup ## plant known mistakes in a copy: a test must notice each (ARGS="-k keeping" some)
	$(PY) tests/mutants.py $(ARGS)

explore: setup ## explore the elections' core: every order of events within a budget of faults, an hour or more (ARGS=--help tells of parts, bounds and random schedules)
	$(PY) -m tests.election.explore $(ARGS)

check: format-check lint types test ## format, lint, strict types, tests: before each commit

format: setup ## rewrite the sources in the project's format
	$(PY) -m ruff format
	$(PY) -m ruff check --fix --exit-zero

format-check: setup
	$(PY) -m ruff format --check

lint: setup ## ruff's rules (pyproject.toml)
	$(PY) -m ruff check

types: setup ## mypy, strict (setup.cfg)
	$(PY) -m mypy

test-image: root setup ## of test-all: build the image, and run it and its node bundle (ARGS="-k bundle" some)
	$(PYTEST) tests/image $(ARGS)

bench: root setup ## what a call costs: in direct mode, the agent, its client, the node bundle, a race against peers, failover on Kubernetes (ARGS=--json prints, ARGS=--save keeps for docs/performance.md)
	$(PY) -m compileall -q cni_floatip
	$(PY) bench/startup.py $(ARGS)
	$(PY) bench/agent.py $(ARGS)
	$(PY) bench/bundle.py $(ARGS)
	$(PY) bench/peers.py $(ARGS)
	$(PY) bench/failover.py $(ARGS)

docs: setup ## docs/configuration.md anew from the schemas, doctor.md from the catalog, performance.md from the benches, drawings of states
	$(PY) docs/generate.py
	$(PY) docs/generate_doctor.py
	$(PY) docs/generate_states.py
	$(PY) docs/generate_performance.py

manifests: setup ## install/manifests, values.schema.json and the table of values anew, from the chart
	$(PY) install/render.py

coverage: setup ## branch coverage of the pure core by its own tests
	$(PYTEST) -q --cov --cov-report= tests/config tests/model tests/operations tests/protocol tests/rules tests/validate
	$(PY) -m coverage report --show-missing --include="$$($(PY) -m tests.core.shape)" $(ARGS)

lock: ## pin the newest releases that setup.cfg allows, for every Python from 3.11 on (ARGS=--no-upgrade keeps pins)
	@install/lock.sh $(ARGS)

clean: ## remove everything that was made here, .venv included
# The stamp first: a .venv with it counts as whole.
	rm -f .venv/locked
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
