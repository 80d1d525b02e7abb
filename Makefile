# Needs Python 3.11 or newer, make and a package index. `make help` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON        ?= python3
VENV          ?= .venv
VENV_CONTRACT ?= .venv-contract
VENV_LOCK     ?= .venv-lock
TYPESCRIPT    := $(VENV_CONTRACT)/typescript
PYTEST_ARGS   ?=
# Files of tests run side by side; most of their time they wait for processes.
WORKERS       ?= 3

PIP_QUIET := --quiet --disable-pip-version-check --no-input
# A folder's time stamp changes when a file in it goes: without folders a deleted module would stay installed.
SOURCES := $(shell find src -not -path '*/__pycache__*' 2>/dev/null) pyproject.toml $(wildcard LICENSE README.md)

# $(call create-venv,FOLDER): checks the interpreter first, and begins anew, so that a half-made folder heals.
define create-venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	printf '%s\n' "error: Python 3.11 or newer is needed; '$(PYTHON)' says: $$($(PYTHON) --version 2>&1 || true)" \
	"hint: name a newer one, for example: PYTHON=python3.12 make $(or $(MAKECMDGOALS),setup)" >&2; exit 2; }
@rm -rf '$(1)'
@$(PYTHON) -m venv '$(1)' || { \
	printf '%s\n' "error: '$(PYTHON) -m venv' failed." \
	"hint: some systems package it apart, for example as python3-venv." >&2; rm -rf '$(1)'; exit 2; }
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(VENV)/.installed ## .venv with the locked dependencies and the freshly built wheel (quick when nothing changed)

.PHONY: setup-contract
setup-contract: $(VENV_CONTRACT)/.dependencies setup-typescript ## .venv-contract with Oracle's own command and SDK

$(VENV)/.dependencies: requirements/dev.txt
	$(call create-venv,$(VENV))
	@echo "installing the locked dependencies into $(VENV)"
	@$(VENV)/bin/python -m pip install $(PIP_QUIET) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.dependencies $(SOURCES)
	@echo "building the wheel and installing it into $(VENV)"
	@rm -rf $(VENV)/wheel
	@$(VENV)/bin/python -m pip wheel $(PIP_QUIET) --no-index --no-build-isolation --no-deps --wheel-dir $(VENV)/wheel .
	@$(VENV)/bin/python -m pip install $(PIP_QUIET) --no-index --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@touch $@

$(VENV_CONTRACT)/.dependencies: requirements/contract.txt
	$(call create-venv,$(VENV_CONTRACT))
	@echo "installing Oracle's own command into $(VENV_CONTRACT)"
	@$(VENV_CONTRACT)/bin/python -m pip install $(PIP_QUIET) --require-hashes -r requirements/contract.txt
	@touch $@

# As root on Debian and its kin, Node comes from the system's packages; elsewhere its tests are skipped without it.
.PHONY: setup-typescript
setup-typescript: $(VENV_CONTRACT)/.dependencies
	@command -v npm >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1 || { \
		echo "installing Node for tests/contract"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
			nodejs npm; } >/dev/null || echo "note: Node could not be installed" >&2; }
	@if command -v npm >/dev/null 2>&1; then $(MAKE) --no-print-directory $(TYPESCRIPT)/.installed; else \
		printf '%s\n' "note: there is no npm, so the tests with Oracle's TypeScript SDK are skipped (in CI they fail)" \
		"hint: install Node 20 or newer with npm" >&2; fi

$(TYPESCRIPT)/.installed: $(wildcard tests/contract/typescript/package*.json)
	@echo "installing Oracle's TypeScript SDK into $(TYPESCRIPT)"
	@mkdir -p $(TYPESCRIPT)
	@cp tests/contract/typescript/package.json tests/contract/typescript/package-lock.json $(TYPESCRIPT)
	@cd $(TYPESCRIPT) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: demo
demo: setup ## export a made tenancy from a server on this machine, and show what came
	@$(VENV)/bin/oci-audit demo

# Names in the order in which tests/browser looks for them; OCI_AUDIT_CHROMIUM names another one.
CHROMIUM = $(or $(OCI_AUDIT_CHROMIUM),$(firstword $(foreach name,chromium chromium-browser google-chrome \
	google-chrome-stable,$(shell command -v $(name) 2>/dev/null))))

.PHONY: setup-browser
setup-browser: ## a Chromium for the tests of the report (as root on Debian and its kin it is installed)
ifeq ($(CHROMIUM),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing Chromium for tests/browser"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
			chromium fonts-liberation; } >/dev/null || echo "note: Chromium could not be installed" >&2; \
	else \
		printf '%s\n' "note: there is no Chromium, so tests/browser is skipped (in CI it fails)" \
		"hint: install the package chromium, or name a browser: OCI_AUDIT_CHROMIUM=/path/to/chrome" >&2; \
	fi
endif

.PHONY: test
test: setup setup-contract setup-browser ## the whole suite, on the installed wheel (PYTEST_ARGS=… is passed on)
	OCI_AUDIT_CONTRACT_VENV=$(abspath $(VENV_CONTRACT)) $(VENV)/bin/python -m pytest --ignore=tests/soak -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

.PHONY: check
check: setup ## lint, format, types, layers, and what the documentation shows
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest tests/unit/test_architecture.py $(wildcard tests/docs)

.PHONY: format
format: setup ## put the code into the form that `check` asks for
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

.PHONY: bench
bench: setup setup-contract ## speed and memory beside Oracle's own command, its SDK and curl
	$(VENV)/bin/python -m bench

.PHONY: soak
soak: setup ## long runs, not part of `make test`
	$(VENV)/bin/python -m pytest --timeout=0 tests/soak
	$(VENV)/bin/python -m pytest --timeout=0 --hypothesis-profile=soak tests/properties/test_simulated_sweeps.py

.PHONY: lock
lock: $(VENV_LOCK)/.dependencies ## write both files of requirements/ anew (UPGRADE=1 to move to the newest releases)
	$(call compile-lock,pyproject.toml --group dev,requirements/dev.txt)
	$(call compile-lock,--group contract,requirements/contract.txt)

# Hashes for every platform and every Python from 3.11 on; no address of an index or of a file in the output.
compile-lock = $(VENV_LOCK)/bin/uv pip compile $(1) --output-file $(2) --no-config --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	$(if $(UPGRADE),--upgrade) --quiet

$(VENV_LOCK)/.dependencies:
	$(call create-venv,$(VENV_LOCK))
	@$(VENV_LOCK)/bin/python -m pip install $(PIP_QUIET) 'uv>=0.9'
	@touch $@

.PHONY: schema
schema: setup ## write docs/reference/manifest.schema.json and archive.schema.json again from the code
	$(VENV)/bin/python tests/docs/test_schema.py

.PHONY: tables
tables: setup ## write the generated tables of docs/reference again from the code
	$(VENV)/bin/python tests/docs/test_tables.py

.PHONY: screenshots
screenshots: setup setup-browser ## take the pictures of the report in docs/images again
	PYTHONPATH=tests $(VENV)/bin/python tests/browser/screenshots.py

.PHONY: clean
clean: ## remove the environments, caches and build results
	rm -rf '$(VENV)' '$(VENV_CONTRACT)' '$(VENV_LOCK)' build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
