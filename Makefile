# `make` lists the targets. The first one that needs it creates a virtual environment in .venv.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test test-all test-second lint bench pretrained clean

help:
	@echo "make demo      answers on real pictures, then a short training: everything in demo/"
	@echo "make test      every behaviour once, on TensorFlow"
	@echo "make test-all  the second lane too: browser, deployment, JAX and torch, benchmarks"
	@echo "make lint      ruff, mypy and import-linter"
	@echo "make bench     exactness and speed, on paintings by this package or on DATA=FOLDER"
	@echo "make pretrained DATA=FOLDER GROUPS=CSV"
	@echo "               trains the packaged model, into src/hf_ela/pretrained"
	@echo "make clean     remove .venv, demo/ and caches"
	@echo "Another Python (3.11, 3.12 or 3.13): make PYTHON=python3.12 ..."

demo: .venv/.demo
	@echo "== The packaged model on real pictures. The names say the truth: fake or real. =="
	$(BIN)/hf-ela predict tests/data
	@echo "== A short training on pictures painted by code, to show every step. =="
	$(BIN)/hf-ela samples demo/samples --per-class 72 --test-per-class 24 --num-proc 2
	rm -rf demo/run
	$(BIN)/hf-ela train --recipe scratch --data demo/samples --groups demo/samples/groups.csv \
	    --out demo/run --set input.training=as_is --set training.epochs=6 --set training.batch_size=16
	@echo "== Next =="
	@echo "open  demo/run/README.md                         the model card of this training"
	@echo "open  demo/run/plots/                            its curves, and its worst mistakes"
	@echo "type  $(BIN)/hf-ela predict YOUR_PICTURE.jpg     what the packaged model says"

test: .venv/.dev
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

test-second: .venv/.dev
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal -m second_lane

test-all: test test-second

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev
	$(BIN)/python benchmarks/exact.py $(if $(DATA),--data $(DATA))
	$(BIN)/python benchmarks/speed.py $(if $(DATA),--data $(DATA))

# DATA and GROUPS as benchmarks/join.py makes them.
pretrained: .venv/.dev
	$(BIN)/hf-ela train --set calibration.left_out=part \
	    --data $(DATA) --groups $(GROUPS) \
	    --out runs/pretrained $(if $(wildcard runs/pretrained/checkpoint),--resume)
	rm -rf src/hf_ela/pretrained
	cp -r runs/pretrained/weights src/hf_ela/pretrained
	cp -r $(addprefix runs/pretrained/,run.json plots) src/hf_ela/pretrained/
	sed 's|](samples/|](../../../model_card/samples/|' runs/pretrained/README.md \
	    > src/hf_ela/pretrained/README.md
	rm src/hf_ela/pretrained/plots/ela.png src/hf_ela/pretrained/plots/mistakes.png # others' images

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +

.venv/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e ".[dev]"
	@touch .venv/.demo $@

.venv/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e ".[train-cpu]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "hf-ela requires Python 3.11, 3.12 or 3.13. Received: PYTHON=$(PYTHON)," \
	        "$$($(PYTHON) --version 2>&1). Choose another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
