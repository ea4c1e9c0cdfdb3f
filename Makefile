# Two commands do everything on a machine with Python 3.11 or later and make:
#   make demo   set up, verify the solvers, train a mini detector, write runs/demo/report.html
#   make test   set up, run all tests
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python
READY   = $(VENV)/ready

.PHONY: help setup demo test fast adapters lab notebooks book bench picture lint clean

help:            ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## */\t/' | expand -t 12

setup: $(READY)  ## make the virtual environment (.venv)

# the environment is made anew when what it should hold has changed
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "otalab needs Python 3.11 or later; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[notebooks,fast,export,tensorboard,dev,book]'
	@touch $(READY)

demo: $(READY)   ## verify the solvers, train a mini detector, write runs/demo/report.html (about 6 minutes)
	$(RUN) -m otalab demo

# what one process of the tests compiles, the others read: a shell that forbids it would let each compile everything
test fast: export PYTHONDONTWRITEBYTECODE =

test: $(READY)   ## all tests
	$(RUN) -m pytest -n auto --dist worksteal

fast: $(READY)   ## the tests that take seconds
	$(RUN) -m pytest -m 'not slow'

adapters: $(READY) ## the tests of the adapters, with all frameworks, in an environment on top of .venv (build/adapters)
	$(RUN) -m venv build/adapters
	$(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(echo build/adapters/lib/python3.*/site-packages)/base.pth
	build/adapters/bin/python -m pip install --quiet --no-deps --requirement tests/adapters/requirements.txt
	build/adapters/bin/python -m pip install --quiet --no-deps --no-build-isolation yolox==0.3.0
	build/adapters/bin/python -m pytest tests/adapters

bench: $(READY)  ## measure solvers, assignment and training step; writes benchmarks/*.json (about 17 minutes)
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks.solvers
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks.assign
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks.step
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks.family

picture: $(READY) ## draw the pictures of README.md and docs, one of them from runs/demo
	$(RUN) -m docs.pictures.hero docs/hero.png --checkpoint runs/demo
	$(RUN) -m docs.pictures.deficits docs/deficits.png
	$(RUN) -m otalab compare-assigners shapes --skill 0.7 --objects 7 --seed 7 --picture docs/family.png
	$(RUN) -m otalab verify --problem toy --sizes 20 --picture docs/convergence.png

# OpenMP's threads spin 300,000 times at a barrier: two kernels side by side would take six times as long
lab: export GOMP_SPINCOUNT ?= 10000
lab: $(READY)    ## open JupyterLab in this environment
	$(RUN) -m jupyter lab notebooks

notebooks: $(READY) ## execute all lessons and rewrite their outputs and README's gallery
	rm -rf notebooks/runs/lesson12
	$(RUN) -m notebooks.execute notebooks/[0-9]*.ipynb
	$(RUN) -m notebooks.gallery

book: $(READY)   ## the lessons and the API as a book to be read without a network: build/book/index.html
	$(RUN) -m sphinx -q -W --keep-going -c docs -d build/book-trees . build/book

lint: $(READY)   ## check style
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

clean:           ## remove the environment; runs and data stay
	rm -rf $(VENV)
