# Every target that needs the package makes .venv itself; a bare Python >= 3.11 is enough.
#   make demo                      with the newest python3.x on PATH
#   make demo PYTHON=/opt/python3  with that one (only read while .venv is being made)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CANDIDATES := python3.13 python3.12 python3.11 python3 python

# Tests that need public data find copies here on the project's own machines; elsewhere they are skipped with a reason.
ifeq ($(origin FLASHFM_DATA),undefined)
ifneq ($(wildcard ../shared/data/.),)
export FLASHFM_DATA := $(abspath ../shared/data)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test check docs bench clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' Makefile | while IFS=@ read -r a b; do printf '%-16s%s\n' "$$a" "$$b"; done

install: $(STAMP) ## make .venv and install flashfm into it
	@echo "$(BIN)/flashfm is ready"

demo: $(STAMP) ## four real applications from one measurement each: curve, size to use, HTML page; a simulated day of an autoscaler
	$(BIN)/flashfm demo
	$(BIN)/flashfm simulate

test: $(STAMP) ## run all tests
	$(BIN)/pytest

check: $(STAMP) ## formatting, lint, types and import layers (tests are in `make test`)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP) ## build the documentation into docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(STAMP) ## run every benchmark beside its rival; BENCH="--without operator_scale" leaves the longest out
	$(BIN)/python benchmarks/_run.py --write $(BENCH)

clean: ## remove .venv, caches and built files
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Installed again only when what is to be installed changed; a .venv whose Python has gone is made anew.
$(STAMP): pyproject.toml constraints.txt
	@fits='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$fits" 2>/dev/null; then \
	  for python in $(or $(PYTHON),$(CANDIDATES)); do \
	    if "$$python" -c "$$fits" 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "No Python >= 3.11 with venv and ensurepip found (tried: $(or $(PYTHON),$(CANDIDATES)))." >&2; \
	    echo "Install one (Debian, Ubuntu: apt-get install python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "$$found -m venv --clear $(VENV)"; "$$found" -m venv --clear $(VENV) || exit; \
	fi
	@echo "Installing flashfm and its development tools into $(VENV): a few minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
