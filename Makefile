# Every target sets up what it needs; `make` alone lists them. PYTHON=/path/to/python3 chooses the interpreter.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

BIN := .venv/bin
# A stamp is older than what decides the environment's contents: then it is brought up to date.
SETUP := pyproject.toml tools/venv.sh
TESTS ?= tests
BENCH ?=

.PHONY: help install check format docs test test-torch bench demo gpu-bundle clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | while IFS='	' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; done

install: .venv/.made ## .venv/ with Glowplug and the development tools

check: .venv/.made ## style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

format: .venv/.made ## rewrite the sources as `make check` wants them
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: .venv/.made ## rewrite what the documents take from the sources
	$(BIN)/python tools/compatibility.py
	$(BIN)/python tools/gpu_reference.py

test: .venv/.made ## every test that needs neither a GPU nor PyTorch (TESTS=tests/unit for some)
	$(BIN)/pytest $(TESTS)

test-torch: .venv-torch/.made ## the tests that train with PyTorch, on the CPU
	.venv-torch/bin/pytest -m "torch and not gpu" tests/training

bench: .venv-bench/.made ## the figures of bench/README.md, measured on this machine (BENCH=--readme writes them there)
	.venv-bench/bin/python bench $(BENCH)

demo: .venv-demo/.made ## the main job in 25 lines, every one of them asserted
	@.venv-demo/bin/glowplug demo

gpu-bundle: .whl-gpu/.made ## wheels for a GPU machine without a network (Python 3.12, x86-64)

clean: ## remove environments, bundles and caches
	rm -rf .venv .venv-* .whl-gpu build dist .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find src tests bench examples tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.venv/.made: $(SETUP)
	@echo "Setting up .venv"
	@tools/venv.sh .venv dev
	@touch $@

.venv-demo/.made: $(SETUP)
	@echo "Setting up .venv-demo (once)"
	@tools/venv.sh .venv-demo
	@touch $@

.venv-torch/.made: $(SETUP)
	@echo "Setting up .venv-torch (PyTorch is large)"
	@tools/venv.sh .venv-torch --pip torch
	@touch $@

.venv-bench/.made: $(SETUP)
	@echo "Setting up .venv-bench (Ray, Dask and PyTorch are large)"
	@tools/venv.sh .venv-bench --pip bench
	@touch $@

.whl-gpu/.made: $(SETUP)
	@tools/gpu-bundle.sh .whl-gpu
	@touch $@
