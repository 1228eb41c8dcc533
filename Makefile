# Two commands do it all on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9

# Another Python's name, modules and warnings do not belong to the one of this folder.
unexport PYTHON PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS PYTHONINSPECT PYTHONSAFEPATH

.PHONY: run test test-packaging lint lock-check python drill side-by-side install install-dev chromium debian docs lock sample screenshots clean help

run: install ## install, start every service, run the main job, serve the page (DATA=folder for other CSVs)
	@$(if $(DATA),VROOM_DATA_DIR="$(DATA)") $(BIN)/python -m flows up

# Tests start a hundred Python processes, which start sooner from bytecode that an earlier one kept.
test: export PYTHONDONTWRITEBYTECODE =
test: install-dev chromium lint ## install what the tests need, run every check and the tests
	@$(BIN)/python -m pytest -m "not packaging" --numprocesses 3 --dist loadgroup --no-loadscope-reorder

test-packaging: install-dev chromium debian ## the tests of deployment, upgrade and the whole system under faults, which take long
	@$(BIN)/python -m pytest -m packaging

lint: install-dev ## formatting, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

drill: install-dev ## break the running system in every way we know (ONLY=words selects, SOAK=30m watches it for long instead)
	@$(BIN)/python -m $(if $(SOAK),benchmarks.soak "$(SOAK)",tests.drill $(if $(ONLY),--only "$(ONLY)"))

side-by-side: install-dev ## measure two commits in turns (BASE=revision, HEAD=revision, ONLY=words selects)
	@$(BIN)/python -m benchmarks.side_by_side $(BASE) $(HEAD) $(if $(ONLY),--only $(ONLY))

install: $(VENV)/installed

install-dev: $(VENV)/installed-dev

python:
	@[ "$(origin PYTHON)" = file ] && [ -x $(BIN)/python ] || $(PYTHON) --version >/dev/null || \
	  { echo "$(PYTHON) cannot be run; install it, or name another: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@[ "$(origin PYTHON)" = file ] || [ ! -x $(BIN)/python ] || [ "$$($(PYTHON) --version)" = "$$($(BIN)/python --version)" ] || \
	  { echo "$(VENV) is of $$($(BIN)/python --version), not $$($(PYTHON) --version): run make clean first, or name another VENV"; exit 1; }

$(BIN)/uv: | python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Vroom needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"

$(VENV)/installed: requirements.lock pyproject.toml | $(BIN)/uv
	@echo "Installing Vroom and what it needs into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	@echo "Installing what the tests need into $(VENV)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@

chromium: ## Debian's Chromium for the browser tests, where it may be installed; without it they skip and say so
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	  echo "No Chromium here and no right to install it: the browser tests will skip."

DEBIAN := nginx openssl prometheus systemd-analyze
NO_START := /usr/sbin/policy-rc.d

debian: ## Debian's programs for the tests of deployment, where they may be installed, with none of their services started
	@PATH="$$PATH:/usr/sbin"; (for program in $(DEBIAN); do command -v $$program >/dev/null || exit 1; done) || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    { [ -e $(NO_START) ] || { trap 'rm -f $(NO_START)' EXIT; printf '#!/bin/sh\nexit 101\n' >$(NO_START); chmod +x $(NO_START); }; } && \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	      nginx openssl prometheus systemd >/dev/null; } || \
	  echo "Not all of $(DEBIAN) are here, and no right to install them: their tests will skip."

docs: install-dev ## build the site of the documents, with search: site/html/index.html
	@$(BIN)/python docs/lay_out.py site/pages
	@$(BIN)/zensical build --strict --clean

screenshots: install-dev chromium ## take the pictures of the pages again, on the whole system
	@$(BIN)/python -m tests.browser.screenshots

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml

lock: | $(BIN)/uv ## pin every dependency again, with hashes
	@$(COMPILE) --upgrade --extra local --group build --output-file requirements.lock
	@$(COMPILE) --all-extras --group build --group dev --group docs --constraint requirements.lock --output-file requirements-dev.lock
	@for extra in web flows orchestrator; do $(COMPILE) --extra $$extra --constraint requirements.lock --output-file deploy/$$extra.lock; done
	@$(COMPILE) --group mlflow --constraint requirements.lock --output-file deploy/mlflow.lock

lock-check: export MACOSX_DEPLOYMENT_TARGET = 14.0
lock-check: | $(BIN)/uv ## see that all extras install from wheels alone, as locked, on Linux and Macs and each Python
	@for platform in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-apple-darwin; do \
	  for version in 3.11 3.12 3.13; do \
	    $(BIN)/uv pip compile --quiet --extra all --constraint requirements-dev.lock --only-binary :all: \
	      --python-platform $$platform --python-version $$version pyproject.toml >/dev/null || exit 1; \
	    echo "$$platform, Python $$version: wheels alone"; \
	  done; \
	done

sample: install ## generate the sample data again
	@$(BIN)/python data/generate.py --out data

clean: ## remove the environment and everything the system wrote
	@rm -rf $(VENV) var site

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
