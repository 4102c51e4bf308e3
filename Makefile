# Everything a newcomer needs; `make` alone lists it. Works with GNU Make 3.81 (macOS) and newer.

PYTHON ?= python3
PROFILE ?= quick
BIN := .venv/bin
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable
# JupyterLab would ask at its first start whether to fetch news from the network.
NEWS := @jupyterlab/apputils-extension:announcements
MAC_BROWSERS := "/Applications/Google Chrome.app" "/Applications/Chromium.app"

.DEFAULT_GOAL := help
.PHONY: help install book test check lab lint chromium clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "Variables: PROFILE=quick|laptop|paper (now $(PROFILE)), PYTHON=a Python 3.11 or newer (now $(PYTHON))"

install: .venv/.installed ## make .venv and install the pinned versions; does nothing when they are in place

.venv/.installed: pyproject.toml constraints.txt
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  if ! "$(PYTHON)" -c '' 2>/dev/null; then \
	    echo "$(PYTHON) does not run here: install Python 3.11 or newer, or name one with make install PYTHON=python3.12." >&2; exit 1; fi; \
	  if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	    echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1), too old: name a Python 3.11 or newer with make install PYTHON=python3.12." >&2; exit 1; fi; \
	  if ! "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$(PYTHON) has no venv module: install it (on Debian and Ubuntu: sudo apt install python3-venv) and run make again." >&2; exit 1; fi; \
	  echo "Making .venv with $$("$(PYTHON)" --version)"; \
	  "$(PYTHON)" -m venv --clear .venv; fi
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[book,sweep,test]'
	$(BIN)/python -m jupyterlab.labextensions disable --level=sys_prefix $(NEWS)
	@touch $@

book: install ## run the notebooks (PROFILE=quick) and build the site; prints where its index.html is
	$(BIN)/lsn book --profile $(PROFILE)

test: install chromium ## run all tests
	$(BIN)/python -m pytest

check: install ## run the tests that take no minutes and no browser, while you work
	$(BIN)/python -m pytest -m "not slow and not browser"

lab: install ## open the notebooks in JupyterLab; its options, if any, in LAB, such as LAB=--allow-root
	$(BIN)/python -m jupyterlab notebooks $(LAB)

lint: install ## check code and notebooks: style, format, no outputs
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m nbstripout --verify --keep-id notebooks/*.ipynb

# A missing browser is no error: the tests that need one skip themselves.
chromium: ## install Chromium for the browser tests where apt can do it
	@for name in $(BROWSERS); do if command -v $$name >/dev/null 2>&1; then exit 0; fi; done; \
	for app in $(MAC_BROWSERS); do if [ -d "$$app" ]; then exit 0; fi; done; \
	if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then as_root=env; \
	elif command -v apt-get >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then as_root="sudo -n env"; \
	else echo "No Chromium or Chrome here: the browser tests will be skipped."; exit 0; fi; \
	echo "Installing Chromium for the browser tests"; \
	( $$as_root apt-get update -qq && \
	  $$as_root DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null ) \
	  || echo "Chromium could not be installed: the browser tests will be skipped."

clean: ## remove what was built (build/ and caches); keeps .venv and runs/
	rm -rf build .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +
