# Needs Python 3.11 or newer, make and a package index. `make help` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON        ?= python3
VENV          ?= .venv
VENV_CONTRACT ?= .venv-contract
VENV_TOOLS    ?= .venv-tools
VENV_LOWEST   ?= .venv-lowest
VENV_SPARK    ?= .venv-spark
VENV_OLDEST   ?= .venv-spark-oldest
TYPESCRIPT    := $(VENV_CONTRACT)/typescript
PYTEST_ARGS   ?=
# Test files that run in parallel; most of the time, they wait for processes.
WORKERS       ?= 4

PIP_QUIET := --quiet --disable-pip-version-check --no-input
# Python compiles a module when it is first imported. Compiling all 18,000 modules of Oracle's SDK at installation,
# of which the program imports a few hundred, takes longer than everything else together.
PIP_LOCKED := $(PIP_QUIET) --no-compile --require-hashes
# Folders are included because their time stamps change when a file is deleted; otherwise a deleted module would
# stay installed.
SOURCES := $(shell find src share -not -path '*/__pycache__*' 2>/dev/null) pyproject.toml $(wildcard LICENSE README.md)
# Archives get the time of the last commit, so that the same commit gives the same bytes; without git, a constant.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),1767225600)
export SOURCE_DATE_EPOCH

# pip processes that run at the same time would write to the same environment.
.NOTPARALLEL:

# $(call create-venv,FOLDER): checks the interpreter, then creates the environment from scratch, so that an incomplete
# one is replaced.
define create-venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	printf '%s\n' "error: Python 3.11 or newer is needed; '$(PYTHON)' says: $$($(PYTHON) --version 2>&1 || true)" \
	"hint: name a newer one, for example: PYTHON=python3.12 make $(or $(MAKECMDGOALS),setup)" >&2; exit 2; }
@rm -rf '$(1)'
@$(PYTHON) -m venv '$(1)' || { \
	printf '%s\n' "error: '$(PYTHON) -m venv' failed." \
	"hint: some systems have it in a separate package, for example python3-venv." >&2; rm -rf '$(1)'; exit 2; }
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(VENV)/.installed ## export a synthetic tenancy from a server on this machine, and write a report
	@$(VENV)/bin/oci-audit demo

.PHONY: setup
setup: $(VENV)/.installed $(VENV)/.dependencies ## create or update .venv: the wheel, its locked dependencies, and the test tools

.PHONY: setup-contract
setup-contract: $(VENV_CONTRACT)/.dependencies setup-typescript ## create or update .venv-contract: Oracle's CLI and SDKs

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt
	$(call create-venv,$(VENV))
	@echo "installing the program's locked dependencies into $(VENV)"
	@$(VENV)/bin/python -m pip install $(PIP_LOCKED) -r requirements/runtime.txt -r requirements/build.txt
	@touch $@

# dev.txt has the same versions of what is already installed, so pip adds only the rest.
$(VENV)/.dependencies: $(VENV)/.runtime requirements/dev.txt
	@echo "installing the test tools into $(VENV)"
	@$(VENV)/bin/python -m pip install $(PIP_LOCKED) -r requirements/dev.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.runtime $(SOURCES)
	@echo "building the wheel and installing it into $(VENV)"
	@rm -rf $(VENV)/wheel
	@$(VENV)/bin/python -m pip wheel $(PIP_QUIET) --no-index --no-build-isolation --no-deps --wheel-dir $(VENV)/wheel .
	@$(VENV)/bin/python -m pip install $(PIP_QUIET) --no-index --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@touch $@

$(VENV_CONTRACT)/.dependencies: requirements/contract.txt
	$(call create-venv,$(VENV_CONTRACT))
	@echo "installing Oracle's CLI into $(VENV_CONTRACT)"
	@$(VENV_CONTRACT)/bin/python -m pip install $(PIP_LOCKED) -r requirements/contract.txt
	@touch $@

# For root on a Debian-based system, Node is installed from the system's packages; elsewhere, its tests are skipped
# without it.
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

# The Java that Spark starts: the one of JAVA_HOME, or else of PATH. For root on a Debian-based system it is installed.
JAVA = $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)
.PHONY: find-java
find-java:
	@$(JAVA) -version >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1 || { \
		echo "installing Java for Spark"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
			openjdk-17-jre-headless; } >/dev/null || echo "note: Java could not be installed" >&2; }
	@$(JAVA) -version >/dev/null 2>&1 || { \
		printf '%s\n' "error: Spark needs Java 17 or newer, and '$(JAVA)' does not run." \
		"hint: install the package openjdk-17-jre-headless, or name a Java: JAVA_HOME=/path/to/jdk" >&2; exit 2; }

.PHONY: setup-spark
setup-spark: find-java $(VENV_SPARK)/.installed ## create or update .venv-spark: Spark with its jars, and the wheel (needs Java 17)

$(VENV_SPARK)/.dependencies: requirements/spark.txt
	$(call create-venv,$(VENV_SPARK))
	@echo "installing Spark into $(VENV_SPARK), which takes some minutes"
	@$(VENV_SPARK)/bin/python -m pip install $(PIP_LOCKED) -r requirements/spark.txt
	@touch $@

$(VENV_SPARK)/.installed: $(VENV_SPARK)/.dependencies $(VENV)/.installed
	@$(VENV_SPARK)/bin/python -m pip install $(PIP_QUIET) --no-index --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@touch $@

# Names in the order in which tests/browser looks for them; OCI_AUDIT_CHROMIUM names a different one.
CHROMIUM = $(or $(OCI_AUDIT_CHROMIUM),$(firstword $(foreach name,chromium chromium-browser google-chrome \
	google-chrome-stable,$(shell command -v $(name) 2>/dev/null))))

.PHONY: setup-browser
setup-browser: ## find a Chromium for the tests of the report (root on a Debian-based system: install it)
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
test: setup setup-contract setup-browser ## run the whole test suite on the installed wheel (PYTEST_ARGS=… is passed to pytest)
	OCI_AUDIT_CONTRACT_VENV=$(abspath $(VENV_CONTRACT)) $(VENV)/bin/python -m pytest --ignore=tests/soak --ignore=tests/release --ignore=tests/spark -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

.PHONY: test-spark
test-spark: setup-spark ## run the tests with a real Spark: in one process, on a cluster of two workers, and the how-to
	$(VENV_SPARK)/bin/python -m pytest tests/spark $(PYTEST_ARGS)

.PHONY: test-spark-oldest
test-spark-oldest: find-java $(VENV_OLDEST)/.installed ## run them with the oldest supported Spark
	$(VENV_OLDEST)/bin/python -m pytest -W default tests/spark $(PYTEST_ARGS)

$(VENV_OLDEST)/.installed: $(VENV_TOOLS)/bin/uv requirements/spark.txt $(VENV)/.installed
	$(call create-venv,$(VENV_OLDEST))
	@echo "installing Spark 4.0 into $(VENV_OLDEST), which takes some minutes"
	@grep -v '^pyspark' requirements/spark.txt | sed -n 's/^\([a-z0-9._-]*==[^ ;]*\).*/\1/p' >$(VENV_OLDEST)/constraints.txt
	@$(VENV_TOOLS)/bin/uv pip install --quiet --no-config --python $(VENV_OLDEST)/bin/python \
		--constraint $(VENV_OLDEST)/constraints.txt 'pyspark==4.0.*' hypothesis pytest pytest-timeout "$$(ls $(VENV)/wheel/*.whl)[spark]"
	@touch $@

.PHONY: check
check: setup ## check style, format, types, layers, and the documentation's examples
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/zizmor --offline --quiet .github
	$(VENV)/bin/python -m pytest tests/unit/test_architecture.py $(wildcard tests/docs)

.PHONY: format
format: setup ## format the code and fix its style
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

.PHONY: bench
bench: setup setup-contract ## compare speed and memory with Oracle's CLI, its SDK, and curl
	$(VENV)/bin/python -m bench

.PHONY: soak
soak: setup ## run the long tests, which are not part of `make test`
	$(VENV)/bin/python -m pytest --timeout=0 tests/soak
	$(VENV)/bin/python -m pytest --timeout=0 --hypothesis-profile=soak tests/properties/test_simulated_sweeps.py

.PHONY: lock
lock: $(VENV_TOOLS)/bin/uv ## update the locks in requirements/ (UPGRADE=1 moves to the newest releases)
	$(call compile-lock,pyproject.toml --group dev,requirements/dev.txt)
	$(call compile-lock,pyproject.toml --constraint requirements/dev.txt,requirements/runtime.txt)
	$(call compile-lock,--group build --constraint requirements/dev.txt,requirements/build.txt)
	$(call compile-lock,--group contract,requirements/contract.txt)
	$(call compile-lock,pyproject.toml --extra spark --group spark --constraint requirements/runtime.txt,requirements/spark.txt)
	$(call compile-lock,--group release,requirements/release.txt)

# Hashes for every platform and every Python from 3.11 on; no address of an index and no path in the output.
compile-lock = $(VENV_TOOLS)/bin/uv pip compile $(1) --output-file $(2) --no-config --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	$(if $(UPGRADE),--upgrade) --quiet

$(VENV_TOOLS)/bin/uv: requirements/release.txt
	$(call create-venv,$(VENV_TOOLS))
	@echo "installing uv, pipx and cyclonedx-py into $(VENV_TOOLS)"
	@$(VENV_TOOLS)/bin/python -m pip install $(PIP_LOCKED) -r requirements/release.txt
	@touch $@

.PHONY: dist
dist: $(VENV)/.installed ## build the wheel and the sdist into dist/; the same commit gives the same bytes
	@rm -rf dist
	@$(VENV)/bin/hatchling build -d dist -t sdist -t wheel
	@cd dist && sha256sum *.whl *.tar.gz 2>/dev/null || shasum -a 256 *.whl *.tar.gz

# A lock does not say which package needs which; the warning about that is of no use.
.PHONY: sbom
sbom: $(VENV_TOOLS)/bin/uv ## write dist/sbom.cdx.json: the locked runtime dependencies as a CycloneDX SBOM
	@mkdir -p dist
	@PYTHONWARNINGS=ignore::UserWarning $(VENV_TOOLS)/bin/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml \
		--output-reproducible --output-format JSON --output-file dist/sbom.cdx.json

.PHONY: test-install
test-install: setup $(VENV_TOOLS)/bin/uv ## install the wheel with uvx and pipx in fresh environments, and run the demo
	OCI_AUDIT_TOOLS_VENV=$(abspath $(VENV_TOOLS)) $(VENV)/bin/python -m pytest tests/release $(PYTEST_ARGS)

# The parts that use each dependency, and an export against the emulator. Warnings stay warnings: old releases have some
# that later ones removed.
LOWEST_TESTS ?= $(addprefix tests/unit/,cli/test_app.py cli/test_options.py cli/test_progress.py client/test_auth.py \
	client/test_auth_principals.py client/test_network.py client/test_signer.py client/test_transport.py \
	events/test_field_naming.py events/test_fields.py formats/test_compression.py formats/test_json_any_layout.py \
	formats/test_parquet.py analysis/test_query.py analysis/test_report.py analysis/test_query_guard.py \
	analysis/test_summary.py storage/test_manifest.py) tests/integration/test_demo.py

.PHONY: test-lowest
test-lowest: $(VENV_LOWEST)/.installed ## run a selection of tests with the oldest supported release of each dependency
	$(VENV_LOWEST)/bin/python -m pytest -W default -n $(WORKERS) --dist loadfile $(LOWEST_TESTS) $(PYTEST_ARGS)

# The test tools are constrained to their locked releases; only the direct dependencies of the wheel are lowered.
$(VENV_LOWEST)/.installed: $(VENV_TOOLS)/bin/uv requirements/dev.txt $(SOURCES)
	$(call create-venv,$(VENV_LOWEST))
	@echo "installing the oldest supported release of each dependency into $(VENV_LOWEST)"
	@$(VENV_TOOLS)/bin/uv pip install --quiet --no-config --python $(VENV_LOWEST)/bin/python --resolution lowest-direct .
	@$(VENV_LOWEST)/bin/python -m pip freeze --exclude oci-audit-streamer >$(VENV_LOWEST)/lowest.txt
	@$(VENV_TOOLS)/bin/uv pip install --quiet --no-config --python $(VENV_LOWEST)/bin/python \
		--constraint $(VENV_LOWEST)/lowest.txt --group dev
	@touch $@

IMAGE ?= oci-audit

# The first tool that works builds it; docker has no other image format, and the default of the others has no health check.
.PHONY: container
container: ## build the container image (skipped where neither buildah, podman nor docker works)
	@for tool in $(or $(CONTAINER_TOOL),buildah podman docker); do \
		$$tool info >/dev/null 2>&1 || continue; \
		[ $$tool = docker ] && format= || format='--format docker'; \
		echo "building the image $(IMAGE) with $$tool"; \
		exec $$tool build $$format --build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) -f Containerfile -t $(IMAGE) .; \
	done; echo "skipped: neither buildah, podman nor docker works here"

.PHONY: schema
schema: setup ## generate docs/reference/manifest.schema.json and archive.schema.json
	PYTHONPATH=tests $(VENV)/bin/python tests/docs/test_schema.py

.PHONY: tables
tables: setup ## generate the tables of docs/reference
	PYTHONPATH=tests $(VENV)/bin/python tests/docs/test_tables.py

.PHONY: man
man: setup ## generate the man pages and completion scripts in share/
	PYTHONPATH=tests $(VENV)/bin/python tests/docs/test_man_pages.py

.PHONY: screenshots
screenshots: setup setup-browser ## take the screenshots of the report in docs/images
	PYTHONPATH=tests $(VENV)/bin/python tests/browser/screenshots.py

.PHONY: recording
recording: setup ## record the terminal session in docs/images/demo.svg
	$(VENV)/bin/python tools/record_demo.py

.PHONY: clean
clean: ## remove the environments, caches and build results
	rm -rf '$(VENV)' '$(VENV_CONTRACT)' '$(VENV_TOOLS)' '$(VENV_LOWEST)' '$(VENV_SPARK)' '$(VENV_OLDEST)' build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
