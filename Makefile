# Every target makes and shares one .venv with plain pip; nothing needs to be installed before but Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# What parity tests compare with, beside transformers.
PEERS := open_clip_torch timm torchvision

.PHONY: demo serve test check format clean

demo: $(VENV)/base
	$(BIN)/zebra demo --out runs/demo

serve: $(VENV)/serve
	$(BIN)/zebra serve

# Two files at a time, each with one thread: threads of two processes on two cores would wait for each other.
test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs dist build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/serve: $(VENV)/base
	$(PIP) --editable ".[serve]"
	touch $@

$(VENV)/dev: $(VENV)/base
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps $(PEERS)  # their torchvision asks for a CUDA build of torch
	touch $@
