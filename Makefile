# make console: set everything up and open the console.  make test: set everything up and run the tests.
# make install: a link to red-console in ~/.local/bin, or in PREFIX/bin.  make docs: the documentation as pages.
PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS_VENV := .venv-extras
EXTRAS_BIN := $(EXTRAS_VENV)/bin
EXTRAS := $(EXTRAS_VENV)/.installed
DOCS := $(VENV)/.docs-installed
PREFIX ?= $(HOME)/.local

.PHONY: console install link compiled test test-fast test-again test-extras chaos soak fuzz check format bench screenshots
.PHONY: docs docs-generate release clean

console: $(STAMP)
	@echo "red-console is $(CURDIR)/$(BIN)/red-console: make install puts it on your PATH, source $(BIN)/activate does so for this shell"
	$(BIN)/red-console

install: $(STAMP) link

link:
	mkdir -p $(PREFIX)/bin
	ln -sf $(CURDIR)/$(BIN)/red-console $(PREFIX)/bin/red-console
	@echo "red-console is $(PREFIX)/bin/red-console"

# Tests start some two thousand processes that import the package: it is compiled once, also where PYTHONDONTWRITEBYTECODE is set.
compiled: $(STAMP)
	@$(BIN)/python -m compileall -q red_tui

# Three tests at a time: on two cores a test that waits for a process leaves room for another.  tests/conftest.py says which share a cluster and which go first.
test: $(STAMP) compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

# What needs neither Ray nor a terminal: about a minute.
test-fast: $(STAMP) compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not ray and not terminal" tests/unit tests/fuzz tests/console

# What stands on optional libraries (Ray Tune, PyTorch, scikit-learn, JAX, pandas): a second environment with them, in which tests/extras runs; `make test` skips it and says so.
test-extras: $(EXTRAS)
	@if $(EXTRAS_BIN)/python -c 'import pytest, red_tui'; then $(EXTRAS_BIN)/python -m pytest tests/extras; \
	else echo "tests/extras cannot run here: $(EXTRAS_VENV) lacks pytest or red-tui" >&2; fi

# make chaos: 36 schedules of faults; a test run plays those few in which every kind is.  SEEDS=100: so many.  SEEDS=7,19: these.  CHAOS_FREEZE=60: so long do processes stand still.
chaos: $(STAMP)
	CHAOS_SEEDS=$(or $(SEEDS),36) $(BIN)/python -m pytest tests/chaos

# make test-again NAME=tests/x.py::test_y TIMES=200 LOAD=0,4,20: a test many times, alone and beside busy processes.
TIMES ?= 50
LOAD ?= 0
test-again: $(STAMP)
	@test -n "$(NAME)" || { echo "say which: make test-again NAME=tests/x.py::test_y TIMES=200 LOAD=4" >&2; exit 1; }
	$(BIN)/python -m tests.again $(NAME) --times $(TIMES) --load $(LOAD)

# make fuzz SECONDS=600: strange input for everything that reads what others wrote.  TARGETS=query,layout: for these.
SECONDS ?= 60
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(TARGETS),--targets $(TARGETS)) $(if $(SEED),--seed $(SEED))

# make soak MINUTES=60: rounds, clients that come and go, and a table of what grew in 1,000 rounds.
MINUTES ?= 10
soak: $(STAMP)
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m benchmarks

screenshots: $(STAMP)
	$(BIN)/python -m screenshots

# The pages that are made from the code; `make docs` builds all pages into build/docs.
docs-generate: $(STAMP)
	$(BIN)/python -m docs.generate

docs: $(DOCS) docs-generate
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

# make release VERSION=0.2.0: looks that all is committed and the changelog has a section, sets the version, builds, tags.  DRY_RUN=1: only looks.
release: $(STAMP)
	@test -n "$(VERSION)" || { echo "say which: make release VERSION=0.2.0" >&2; exit 1; }
	$(BIN)/python -m release $(VERSION) $(if $(DRY_RUN),--dry-run)

clean:
	rm -rf $(VENV) $(EXTRAS_VENV) build dist *.egg-info

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "red-tui needs Python 3.10 or later: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "installing red-tui and the packages it needs into $(VENV): a minute, or a few"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# PyTorch comes in the very version of constraints.txt: any other may be one with CUDA, which is gigabytes.
# What cannot be had in time is told, its tests are skipped, and as there is no stamp then the next call tries again.
PIP_EXTRAS := $(EXTRAS_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
$(EXTRAS): pyproject.toml constraints.txt
	test -x $(EXTRAS_BIN)/python || $(PYTHON) -m venv $(EXTRAS_VENV)
	@rm -f $(EXTRAS); lacking=; \
	timeout 300 $(PIP_EXTRAS) -e '.[dev]' || lacking="$$lacking, what tests need"; \
	timeout 300 $(PIP_EXTRAS) -e '.[tune,pandas]' || lacking="$$lacking, Ray Tune or pandas"; \
	timeout 300 $(PIP_EXTRAS) -e '.[sklearn,jax,data]' || lacking="$$lacking, scikit-learn, JAX or Ray Data"; \
	{ timeout 150 $(PIP_EXTRAS) "$$(grep '^torch==' constraints.txt)" && timeout 150 $(PIP_EXTRAS) -e '.[mnist]'; } \
	  || lacking="$$lacking, PyTorch or MNIST"; \
	if test -z "$$lacking"; then touch $(EXTRAS); \
	else echo "cannot be installed here: $${lacking#, }; their tests are skipped, and the next make test-extras tries again" >&2; fi

$(DOCS): $(STAMP)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "the documentation is built with Python 3.11 or later" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $(DOCS)
