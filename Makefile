# Every target does its own set-up. `make` alone lists them.
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
PYTEST := $(VENV)/bin/pytest -q
READY := $(VENV)/.ready

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml uv.lock scripts/setup.sh
	@sh scripts/setup.sh python
	@touch $@

setup: $(READY) ## the virtual environment with locked dependencies

demo: $(READY) ## protect, lose and restore a real three-layer application of this host
	@sh scripts/setup.sh demo
	@$(PYTHON) scripts/demo.py $(if $(KEEP),--keep $(KEEP))

test: $(READY) ## everything that must hold, tier by tier
	@sh scripts/setup.sh test
	@$(MAKE) --no-print-directory lint
	@for tier in architecture unit contract integration wire acceptance faults; do $(MAKE) --no-print-directory test-$$tier || exit 1; done
	@echo "make test: every tier passed"

lint: $(READY) ## ruff and mypy --strict
	@echo "== lint =="
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

test-architecture: $(READY)
	@echo "== architecture =="
	@$(PYTEST) tests/test_architecture.py tests/test_docs.py

test-unit: $(READY) ## no sockets, no sleep: seconds
	@echo "== unit =="
	@$(PYTEST) tests/unit

test-contract: $(READY) ## one suite per port, run over every implementation
	@echo "== contract =="
	@$(PYTEST) tests/contract

test-integration: $(READY) ## real databases, stores and restic
	@echo "== integration =="
	@restic=$$(sh tests/integration/vault/fetch_restic.sh .cache/restic) && KARBOR_TEST_RESTIC=$$restic $(PYTEST) tests/integration

test-wire: $(READY) ## requests and answers as data files
	@echo "== wire =="
	@$(PYTEST) tests/wire

test-acceptance: $(READY) ## real processes over HTTP
	@echo "== acceptance =="
	@$(PYTEST) tests/acceptance

test-faults: $(READY) ## kill, cut, fill, flip
	@echo "== faults =="
	@$(PYTEST) tests/faults

test-long: $(READY) ## the long forms of property, fault and API tests: an hour and more
	@$(PYTEST) -m long --timeout 7200 tests

chaos: $(READY) ## kill real workers on three databases; KILLS=1000
	@sh scripts/setup.sh test
	@echo "== chaos =="
	@KILLS=$(or $(KILLS),200) $(PYTEST) -s --timeout 7200 tests/faults/test_chaos.py

bench-api: $(READY) ## CPU per request of a real server
	@$(PYTHON) bench/api.py

bench-flow: $(READY) ## CPU per step and per protect
	@$(PYTHON) bench/flow.py

bench-vault: $(READY) ## the vault against restic; SIZE=1G
	@sh scripts/setup.sh test
	@$(PYTHON) bench/vault.py $(if $(SIZE),--size $(SIZE))

cloud: $(READY) ## a real OpenStack on loopback (root): installed at first, started otherwise
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" testbed/up

cloud-down: ## stop it
	@testbed/down

cloud-check: $(READY) ## prove that every service of it works
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" testbed/check

test-cloud: $(READY) ## the OpenStack plugins and banks on the cloud that `make cloud` has brought up
	@echo "== cloud =="
	@$(PYTEST) tests/cloud

clean: ## remove what the targets made here
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

PHONY_MORE := test-long chaos bench-api bench-flow
PHONY_CLOUD := cloud cloud-down cloud-check test-cloud
.PHONY: $(PHONY_CLOUD) $(PHONY_MORE) help setup demo test lint test-architecture test-unit test-contract test-integration test-wire test-acceptance test-faults bench-vault clean
