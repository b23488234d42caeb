# Everything here makes the environment (.venv) first if it is absent, unfinished or out of date.
# Another Python than python3:  make course PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help course test lint environment refresh bench mutants gpu-check pins clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

course: environment ## open JupyterLab on lesson 00
	@$(BIN)/python -m mistral_edu lab

test: ## run every check: lint, types, unit, browser, notebooks
	@$(PYTHON) tools/checks.py

lint: ## ruff and mypy only
	@$(PYTHON) tools/checks.py lint

environment: ## make .venv and stop there
	@$(PYTHON) tools/environment.py

refresh: environment ## run the notebooks again and store their outputs
	@$(BIN)/python tools/refresh_notebooks.py

bench: environment ## measure beside transformers and llama.cpp; OPTIONS="--model tiny --quick"
	@$(BIN)/python -m mistral_edu bench $(OPTIONS)

mutants: environment ## plant every known bug in a copy and see a test fail; TRAPS="5 17" for some
	@$(BIN)/python tools/mutants.py $(TRAPS)

gpu-check: environment ## check and measure an NVIDIA GPU; ARGS="--out DIR --flash-source ARCHIVE"
	@$(BIN)/python -m tests.gpu $(or $(ARGS),--out build/gpu)

pins: environment ## write the installed versions to constraints.txt
	@$(BIN)/python tools/pins.py

clean: ## remove .venv and every cache
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
