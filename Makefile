# `make` lists the targets. The first one that needs it makes a virtual environment in .venv.

PYTHON ?= python3
DATA ?= demo/samples
BIN := .venv/bin

.PHONY: help demo test lint bench pretrained clean demo/samples

help:
	@echo "make demo    sample set, short training, evaluation, two predictions: everything in demo/"
	@echo "make test    the tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   exactness and speed, of JPEG, ELA, preprocessing and prediction, on the sample"
	@echo "             set or DATA=FOLDER: about half an hour (benchmarks/gpu is for a GPU)"
	@echo "make pretrained DATA=FOLDER GROUPS=CSV"
	@echo "             trains the model that comes with the package, into src/hf_ela/pretrained"
	@echo "make clean   remove .venv, demo/ and caches"
	@echo "Another Python (3.11, 3.12 or 3.13): make PYTHON=python3.12 ..."

demo: demo/samples
	rm -rf demo/run
	$(BIN)/python train.py --data demo/samples --groups demo/samples/groups.csv --recipe default \
	    --set input.training=as_is --set training.epochs=24 --set training.batch_size=16 \
	    --out demo/run
	$(BIN)/hf-ela predict --model demo/run \
	    demo/samples/test/real/dots-0028.jpg demo/samples/test/fake/dots-0028.jpg
	@echo "To go on by hand: . .venv/bin/activate"

# A set that is there already is kept; the command says so.
demo/samples: .venv/.installed
	$(BIN)/hf-ela samples demo/samples --per-class 240 --test-per-class 60 --num-proc 2

test: .venv/.installed
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed $(DATA)
	$(BIN)/python benchmarks/exact.py --data $(DATA)
	$(BIN)/python benchmarks/ela.py --data $(DATA)
	$(BIN)/python benchmarks/preprocess.py --data $(DATA)
	$(BIN)/python benchmarks/predict.py --data $(DATA)

# Seed 2: of 0, 1 and 2, the best by AUC on validation. benchmarks/detectors.py --record puts other
# detectors into its card.
pretrained: .venv/.installed
	$(BIN)/python train.py --recipe default --data $(DATA) --groups $(GROUPS) \
	    --set training.seed=2 --set training.order_seed=2 \
	    --out runs/pretrained $(if $(wildcard runs/pretrained/checkpoint),--resume)
	rm -rf src/hf_ela/pretrained
	cp -r runs/pretrained/weights src/hf_ela/pretrained
	cp -r $(addprefix runs/pretrained/,README.md run.json plots samples) src/hf_ela/pretrained/
	rm src/hf_ela/pretrained/plots/ela.png src/hf_ela/pretrained/plots/mistakes.png # others' images

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e ".[dev]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo "hf-ela needs Python 3.11, 3.12 or 3.13. Received: PYTHON=$(PYTHON)," \
	        "$$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
