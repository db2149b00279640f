# Everything runs from a bare Python >= 3.11: each target makes the environment it needs in .venv.
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(shell \
	$(name) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
FLOOR_PYTHON ?= python3.11
# PyTorch lives in an environment of its own: it is large, and few changes need it.
TORCH_PYTHON ?= python3.11
TORCH_VERSION ?= 2.13.0
WORKERS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
TEST := python -m pytest -q -n $(WORKERS)

# The workers share the cores; a BLAS that takes them all slows every one of them down.
test test-all test-floor test-torch: export OMP_NUM_THREADS = 1
export MPLBACKEND ?= agg

.PHONY: demo test test-all test-floor test-torch lint format bench docs clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: .venv/test.stamp ## run the ten-second tour
	@$(BIN)/python vignettes/demo.py

test: .venv/test.stamp ## run the tests and the examples in docstrings, without the slow ones
	@$(BIN)/$(TEST)

test-all: .venv/test.stamp ## run all tests
	@$(BIN)/$(TEST) -m ""

test-floor: .venv-floor/test.stamp ## run the tests on the oldest versions that pyproject.toml allows
	@.venv-floor/bin/$(TEST)

test-torch: .venv-torch/test.stamp ## run all that needs PyTorch: tests, examples, vignettes
	@.venv-torch/bin/$(TEST) reweight/torch tests/reweight/torch \
		$$(grep -rl --include='*.py' 'importorskip("torch")' tests)
	@.venv-torch/bin/python -m pytest -q tests/vignettes -k torch

lint: .venv/test.stamp ## check style, formatting and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format: .venv/test.stamp ## mend style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/bench.stamp ## time the methods beside their peers
	@$(BIN)/python benchmarks/run.py

docs: .venv/docs.stamp ## build the site into docs/_build/html
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

clean: ## remove the environment and all that was built
	rm -rf .venv .venv-floor .venv-torch build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	rm -rf docs/_build docs/api docs/drawn docs/results docs/vignettes
	find reweight causal shift tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv found; install one or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/%.stamp: pyproject.toml | .venv/bin/python
	@echo "Installing counterpoise[$*] and what it needs into .venv (a minute or two)"
	@$(PIP) install --editable '.[$*]'
	@touch $@

.venv-floor/test.stamp: pyproject.toml
	@echo "Installing the oldest versions allowed into .venv-floor (a minute or two)"
	@$(FLOOR_PYTHON) -m venv .venv-floor
	@sed -n '/^dependencies/,/^]/s/.*"\(.*\)>=\(.*\)".*/\1==\2/p' pyproject.toml > .venv-floor/floor.txt
	@.venv-floor/bin/python -m pip -qq --disable-pip-version-check install \
		--constraint .venv-floor/floor.txt --editable '.[test]'
	@touch $@

.venv-torch/test.stamp: pyproject.toml
	@echo "Installing counterpoise[torch-test] with PyTorch $(TORCH_VERSION) into .venv-torch (a minute or two)"
	@$(TORCH_PYTHON) -m venv .venv-torch
	@.venv-torch/bin/python -m pip -qq --disable-pip-version-check install \
		'torch==$(TORCH_VERSION)' --editable '.[test,torch-test]'
	@touch $@
