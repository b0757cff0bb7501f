# Every target leaves everything it installs in .venv (Python) or the user's cache folder (cluster binaries, images).
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
KERNELS := runtime/stoker_runtime/kernels
NATIVE := $(VENV)/.native
ENGINE_TESTS := $(addprefix tests/stoker_runtime/,engine kernels model quant schedule)
HARNESS := PYTHONPATH=tests $(BIN)/python -m e2e.harness

.PHONY: help setup fmt check test unit unit-engine unit-others e2e demo demo-down bench-autoscaler bench-gateway bench-gpu kernels bench-quant bench-runtime crds golden lock images

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) $(NATIVE) ## install everything into .venv

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing the locked packages into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check "uv>=0.5"
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock 2> >(grep -v '^ [-+~] ' >&2)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(NATIVE): $(STAMP) $(wildcard $(KERNELS)/*pp) $(KERNELS)/build.py
	@$(BIN)/python $(KERNELS)/build.py && touch $@

lock: ## resolve the dependencies again
	@uv=$$(command -v uv || echo $(BIN)/uv); opts="--quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header"; \
	$$uv pip compile pyproject.toml $$opts --all-extras --group dev -o requirements.lock && \
	$$uv pip compile pyproject.toml $$opts --extra operator --extra gateway --extra cli -c requirements.lock -o images/requirements-stoker.lock && \
	$$uv pip compile pyproject.toml $$opts --extra runtime -c requirements.lock -o images/requirements-runtime.lock && \
	$$uv pip compile pyproject.toml $$opts --extra runtime --extra torch -c requirements.lock -o images/requirements-runtime-gpu.lock

fmt: setup ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix --quiet .

check: setup ## format check, lint, types, layers
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && $(BIN)/mypy && $(BIN)/lint-imports

unit: setup ## the fast tests, those of the engine beside all others
	@echo "unit: two halves at once; each shows its tests when it has ended"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync unit-engine unit-others

unit-engine unit-others:
	@$(BIN)/pytest $(addprefix $(if $(filter %others,$@),--ignore=),$(ENGINE_TESTS))

e2e: setup ## every user story on a real cluster, with its figures
	@$(HARNESS) prepare
	@$(BIN)/pytest -m e2e --timeout 1200 tests/e2e

test: check unit e2e ## everything: check, unit tests, stories on a real cluster

demo: setup ## a model sleeps, wakes for a request, answers, sleeps again
	@PYTHONPATH=tests $(BIN)/python -m e2e.demo

demo-down: setup ## remove all that the demo made
	@$(HARNESS) down

bench-autoscaler: setup ## the autoscaler beside others on traces: AUTOSCALER_BENCH=folder of the bench
	@$(BIN)/python bench/autoscaler/run.py $(ARGS)

bench-gateway: setup ## what the gateway costs: direct and proxied in turn
	@PYTHONPATH=tests $(BIN)/python bench/gateway/run.py

bench-runtime: setup ## what the engine takes: first token, tokens per second, memory; as stored, int8, int4
	@PYTHONPATH=tests $(BIN)/python bench/runtime/run.py
	@PYTHONPATH=tests $(BIN)/python bench/runtime/load.py
	@PYTHONPATH=tests $(BIN)/python bench/runtime/prefix.py

bench-gpu: setup ## the GPU path on this machine's card, under ten minutes; ARGS=--dry-run without one
	@PYTHONPATH=tests:bench/runtime $(BIN)/python bench/gpu/main.py $(ARGS)

kernels: setup ## compile the GPU kernels ahead of time, no GPU needed
	@$(BIN)/stoker kernels build

bench-quant: setup ## what fewer bits cost: perplexity and accuracy of the committed model
	@$(BIN)/python bench/quant/run.py

images: setup ## build the container images
	@$(HARNESS) images

crds: setup ## write crds/, the chart's copy and docs/api.md from the pydantic models
	@$(BIN)/python -m stoker_api.crd && $(BIN)/python -m stoker_api.reference

golden: setup ## rewrite the expected manifests of the tests
	@STOKER_GOLDEN=write $(BIN)/pytest -q tests -k golden
