# Every target makes and shares one .venv with plain pip; nothing needs to be installed before but Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Peers of the parity tests, beside transformers. Their torchvision requires a CUDA build of torch, hence --no-deps.
PEERS := open_clip_torch timm torchvision clip_benchmark webdataset braceexpand clip_retrieval sentence_transformers \
  mteb pytrec_eval_terrier
# Three files at a time, each with one thread: tests wait for processes that they start, so two leave cores idle.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile
# More arguments of pytest, for instance: make test PYTEST_ARGS="-k store --durations=10"
PYTEST_ARGS ?=
# What `make coverage` and `make test-lowest` run.
TESTS ?=
# The torch of `make test-lowest`; empty takes the lowest version that pyproject.toml allows.
TORCH ?=
LOWEST := build/lowest
# What unit tests need beside zebra itself. schemathesis and datasets require newer packages, so their tests are left out;
# warnings of old packages about newer ones are no errors.
LOWEST_TOOLS := pytest pytest-xdist hypothesis httpx httpx2 pandas polars tensorboard
LOWEST_PYTEST := --ignore tests/unit/serve/test_openapi.py --ignore tests/unit/data/test_hugging_face.py \
  $(addprefix -W default::,DeprecationWarning PendingDeprecationWarning FutureWarning pytest.PytestUnraisableExceptionWarning)

.PHONY: demo serve test test-lowest coverage check docs hooks format clean

demo: $(VENV)/base
	$(BIN)/zebra demo --out runs/demo

serve: $(VENV)/serve
	$(BIN)/zebra serve

test: $(VENV)/dev
	$(PYTEST) $(PYTEST_ARGS)

# Unit tests with the lowest versions that pyproject.toml allows, in an environment of their own.
test-lowest: $(LOWEST)/bin/python
	echo "torch$(if $(TORCH),==$(TORCH))" > build/lowest-torch.txt
	$(LOWEST)/bin/uv pip compile --quiet --no-header --python $(LOWEST)/bin/python --resolution lowest-direct \
	  --extra all --constraint build/lowest-torch.txt --output-file build/lowest.txt pyproject.toml
	$(LOWEST)/bin/python -m pip install --quiet --constraint build/lowest.txt --editable ".[all]" $(LOWEST_TOOLS)
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile \
	  $(LOWEST_PYTEST) $(or $(TESTS),tests/unit)

# Processes that tests start count too. The report is in the terminal and in build/coverage/index.html.
coverage: $(VENV)/dev
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html $(PYTEST_ARGS) $(TESTS)

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in build/site; open build/site/index.html.
docs: $(VENV)/dev
	$(BIN)/python docs/build.py

# Hooks of git: style and spelling of staged files, form of the commit message.
hooks: $(VENV)/dev
	git config core.hooksPath .githooks

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs dist build .cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(LOWEST)/bin/python:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv

$(VENV)/base: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

$(VENV)/serve: $(VENV)/base
	$(PIP) --editable ".[serve]"
	touch $@

$(VENV)/dev: $(VENV)/base
	$(PIP) --editable ".[dev]"
	$(PIP) --no-deps $(PEERS)
	touch $@
