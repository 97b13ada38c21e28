# Every target does its own set-up: a fresh clone needs nothing but Python (3.11 to 3.13) and pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m robench
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check bench bench-autoattack bench-train gpu-check gpu-bundle boards boards-check boards-measure

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/ -/'

setup: $(STAMP)  ## make .venv with everything that the tests use

$(STAMP): pyproject.toml constraints.txt tests/boards/browser/package-lock.json
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# torchattacks first: it carries an old copy of robustbench, which the real one must overwrite.
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt torchattacks  # pins requests~=2.25.1
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@# For the page's accessibility test alone, which says what is missing where this cannot be had.
	-command -v npm >/dev/null && npm ci --prefix tests/boards/browser --ignore-scripts --no-audit --no-fund --silent
	touch $(STAMP)

demo: $(STAMP)  ## the W-Robust table of a natural and a robust network on bundled images
	$(RUN) eval --defense natural-resnet18,fast-at-resnet18-w32 --attacks fgsm,pgd_sat,pgd_trades,cw_inf \
		--dataset cifar10-sample --n 128 $(DEMO_OPTIONS)

test: $(STAMP)  ## the default suite, offline, on the bundled sample; one process a core
	$(BIN)/python -m pytest -q -n auto

test-slow: $(STAMP)  ## full data and long runs (robench data fetch cifar10 first)
	$(BIN)/python -m pytest -q -m slow

check: $(STAMP)  ## ruff, mypy --strict, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(STAMP)  ## time PGD against foolbox and torchattacks on the same model and images
	$(BIN)/python -m benchmarks.pgd $(BENCH_OPTIONS)

bench-autoattack: $(STAMP)  ## time AutoAttack against its authors' code (hours on a CPU; resumes)
	$(BIN)/python -m benchmarks.autoattack $(BENCH_OPTIONS)

bench-train: $(STAMP)  ## time a training step against RSLAD's (BENCH_OPTIONS="--peer FOLDER", its checkout)
	$(BIN)/python -m benchmarks.train_step $(BENCH_OPTIONS)

gpu-check: $(STAMP)  ## does a GPU measure what the CPU measures (PRETEND=1: small, on no GPU at all)
	$(BIN)/python -m benchmarks.gpu_check $(if $(PRETEND),--pretend) $(CHECK_OPTIONS)

gpu-bundle: $(STAMP)  ## the same for a machine without a network, as a folder under build/
	rm -rf build/gpu-bundle
	$(BIN)/python -m benchmarks.bundle --out build/gpu-bundle $(BUNDLE_OPTIONS)

boards: $(STAMP)  ## regenerate everything under leaderboards/ from the records
	$(RUN) leaderboard --records leaderboards/records --format md --out leaderboards/README.md
	$(RUN) leaderboard --records leaderboards/records --format csv --out leaderboards/leaderboard.csv
	$(RUN) leaderboard --records leaderboards/records --format html --out leaderboards/index.html

boards-check: boards  ## fail when something committed is stale
	git diff --exit-code -- leaderboards

boards-measure: $(STAMP)  ## measure the committed records (robench data fetch cifar10 first)
	$(RUN) eval --defense natural-resnet18,fast-at-resnet18-w32,fast-at-early-resnet18-w32 \
		--attacks fgsm,pgd_sat,pgd_trades,cw_inf --dataset cifar10 --n 1000 --out leaderboards/records
	$(RUN) eval --defense sat,trades,ard,rslad,score,fair-ard,absld,mtard-baseline,mtard,bmtard \
		--attacks fgsm,pgd_sat,pgd_trades,cw_inf --dataset cifar10 --n 1000 --out leaderboards/records
	$(RUN) eval --defense natural-resnet18 \
		--attacks autoattack --dataset cifar10 --n 1000 --out leaderboards/records
	$(RUN) eval --defense fast-at-resnet18-w32 \
		--attacks 'all,gradient_estimation[preset=lite]' --dataset cifar10 --n 1000 --out leaderboards/records
