# Every target sets itself up: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
METADATA := setup.cfg setup.py pyproject.toml

.PHONY: quickstart train test test-accelerators lint docs clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/.package  ## A study from plan to report, no download
	$(BIN)/python -m experiments.run positions

train: $(VENV)/.package  ## Train and score a small Transformer, no download
	$(BIN)/python -m tfm_jax.main \
	    --config=configs/transformer_numerals.py --workdir=runs/numerals

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-accelerators: $(VENV)/.test $(VENV)/.tpu  ## Compile for TPUs, published sizes too
	TFM_JAX_PUBLISHED=1 JAX_PLATFORMS=cpu $(BIN)/python -m pytest \
	    tests/train/aot tests/test_platforms.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs  ## The site, build/site/index.html, which needs no server
	$(BIN)/python -m sphinx --fail-on-warning --quiet -d build/doctrees docs build/site

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of packages: a second call costs nothing.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(METADATA) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test $(VENV)/.dev $(VENV)/.docs $(VENV)/.tpu: $(VENV)/.%: $(METADATA) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
