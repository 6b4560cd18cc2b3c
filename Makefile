# Two commands for everybody, two more for developers; each makes its own environment first.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SLURM := /tmp/diffusion-avatars-slurm
READY := .venv/ready

.PHONY: demo test test-slurm test-gpu lint

demo: $(READY) ## the demo capture to films, figures and a report
	snakemake --cores all
	@echo; echo "Made:"; ls results/*/renders/*/*.mp4 results/*/speed/*.mp4 results/*/metrics.json results/*/report.html

test: $(READY) ## all tests but those that need Slurm
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slurm and not gpu"

test-gpu: ## on a machine with a GPU and a PyTorch of its own: tests, speeds, memory; installs nothing, takes 8 minutes
	@PATH=$${PATH#$(CURDIR)/.venv/bin:}; \
	for python in $(PYTHON) .venv/bin/python python3 python; do \
	    $$python -c "import torch; assert torch.cuda.is_available()" 2> /dev/null && exec $$python -m benchmarks.gpu; \
	done; echo "test-gpu: no Python here has a PyTorch that sees a GPU; PYTHON=/path/to/python names one" >&2; exit 1

test-slurm: $(READY) ## the tiny workflow on a single-node Slurm of this machine, compared with a local run
	tests/slurm/slurm.sh start $(SLURM)
	status=0; python -m pytest -m slurm || status=$$?; tests/slurm/slurm.sh stop $(SLURM); exit $$status

lint: $(READY) ## form of the code and of the rules, types
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	basedpyright --level error

$(READY): envs/requirements.txt envs/setup.sh
	envs/setup.sh
	touch $@
