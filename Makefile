# greylag: every target documents itself. Python 3.11+ and make are enough; everything else comes from the package registries.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell for candidate in python3.13 python3.12 python3.11 python3; do command -v $$candidate >/dev/null 2>&1 && \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$candidate && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/python -m uv --quiet --no-progress
STATE  ?= .sandbox
# Three: on two cores most of the suite waits for servers half of its time; each process starts its own.
WORKERS ?= 3
PYTEST  = $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder
# The checkout's own modules, which change: where PYTHONDONTWRITEBYTECODE is set, each of a suite's many processes would compile them anew.
COMPILE = $(BIN)/python -m compileall -q migrator tasks flows deployments sandbox >/dev/null 2>&1 || true

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "greylag needs Python 3.11 or newer with venv; none was found on PATH (set PYTHON=...)" >&2; exit 2; }
	@echo "[setup] virtual environment with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.runtime: $(VENV)/.python pyproject.toml constraints.txt
	@echo "[setup] installing greylag with its flows and embedded servers (about 900 MB on disk)"
	@$(UV) pip install --python $(BIN)/python --constraints constraints.txt --editable '.[flows,sandbox]'
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@echo "[setup] installing the development tools"
	@$(UV) pip install --python $(BIN)/python --constraints constraints.txt --editable '.[flows,sandbox,dev]'
	@# Tests and benchmarks start hundreds of processes; where PYTHONDONTWRITEBYTECODE is set, each would compile Prefect anew.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@

install: $(VENV)/.development ## virtual environment with everything that tests need
	@$(BIN)/python -m sandbox.databases.clickhouse_releases >/dev/null || echo "[setup] its tests will skip and say so" >&2

demo: $(VENV)/.runtime $(if $(CLUSTER),$(VENV)/.development) ## six services promoted dev -> release -> prod on embedded servers (KEEP=1 keeps them, APPROVE=ask lets you approve, APPROVE=ssh has two persons sign, FRESH=1 starts over, CLUSTER=1 runs Jobs, with ARGOCD=1 syncs of a real Argo CD)
	@$(BIN)/python -m sandbox.stack.demo --state $(STATE)/demo$(if $(CLUSTER),$(if $(ARGOCD),-argocd --argocd,-cluster) --cluster) $(if $(KEEP),--keep) $(if $(filter ask ssh,$(APPROVE)),--approve $(APPROVE)) $(if $(FRESH),--fresh)

test: $(VENV)/.development ## all tests but those on Kubernetes and the attacks (WORKERS=3 processes beside each other, ARGS='-k lock' for some)
	@$(COMPILE)
	@$(PYTEST) -m "not cluster and not attack" $(ARGS)

cluster: $(VENV)/.development ## a local Kubernetes to use by hand, without containers (Linux, root; Go builds it once; IMAGES='name=directory ...')
	@$(BIN)/python -m sandbox.cluster --state $(STATE)/cluster $(addprefix --image ,$(IMAGES))

vault: $(VENV)/.development ## a local OpenBao (Vault's API) to use by hand (Go builds it once)
	@$(BIN)/python -m sandbox.vault.openbao_server --state $(STATE)/vault

argocd: $(VENV)/.development ## a local Kubernetes with Argo CD and a git repository to use by hand (Linux, root; Go builds it once)
	@$(BIN)/python -m sandbox.argocd --state $(STATE)/argocd

test-cluster: $(VENV)/.development ## builds Kubernetes, OpenBao and Argo CD if need be, then runs the tests that need them
	@$(BIN)/python -m sandbox.builds controlplane openbao argocd
	@$(COMPILE)
	@$(PYTEST) -m cluster $(ARGS)
	@$(PYTEST) tests/sandbox/test_openbao.py tests/sandbox/test_secrets_server.py $(wildcard tests/flows/test_openbao*.py tests/flows/test_vault*.py tests/flows/test_*credentials*.py) $(ARGS)

faults: $(VENV)/.development ## kills runs at random places and generates schemas, many hundred times, and writes docs/faults.md (PART=engine, which goes on where it stopped: ARGS='--kills 100 --minutes 10'; PART=schemas, PART=grouping and PART=flows do too; PART=sweep)
	@case "$(PART)" in engine) exec $(BIN)/python -m tests.faults.matrix $(ARGS);; sweep) exec $(BIN)/python -m tests.faults.matrix.sweep $(ARGS);; flows) exec $(BIN)/python -m tests.faults.flows $(ARGS);; schemas|grouping) exec $(BIN)/python -m tests.faults.generated $(PART) $(ARGS);; *) echo "PART is engine, flows, schemas, grouping or sweep"; exit 2;; esac

attack: $(VENV)/.development ## attacks a running demo with the Prefect API's address and dev's credentials, and writes docs/attacks.md
	@GREYLAG_TEST_ATTACKS_PAGE=docs/attacks.md $(BIN)/python -m pytest tests/attacks -n 0 -m attack $(ARGS)

bench: $(VENV)/.development ## measures speed and size against goose and writes docs/benchmarks.md (ROWS='...' for some, ARGS='--rounds 3')
	@$(BIN)/python -m tests.benchmarks $(ROWS) $(ARGS)

lint: $(VENV)/.development ## ruff, mypy and the import contracts
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy migrator tasks flows deployments sandbox
	@$(BIN)/lint-imports

format: $(VENV)/.development ## formats the code
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

wheel: $(VENV)/.development ## builds the wheel into dist/
	@$(UV) build --python $(BIN)/python --wheel --out-dir dist .

clean: ## removes the sandbox's state and everything that was built
	@rm -rf $(STATE) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

PART ?= engine
.PHONY: help install demo test cluster vault argocd test-cluster faults attack bench lint format wheel clean
