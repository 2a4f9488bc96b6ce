# `make demo` and `make test` set up all they need in .venv: Python >= 3.11 and a C compiler.
PYTHON ?= python3
BIN := .venv/bin
EXTENSIONS := $(wildcard rtcore/*.pyx rtcore/*.pxd rtcore/*/*.pyx rtcore/*/*.pxd)

.PHONY: demo test check bench build clean lock

build: .venv/built

.venv/installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@touch $@

.venv/built: .venv/installed setup.py $(EXTENSIONS)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: build
	$(BIN)/rtcore demo

test: build
	@# most of what a test does is wait: two at once, those of one file after one another
	$(BIN)/python -m pytest -q -n 2 --dist loadfile
	$(BIN)/python -m tests.api.schemathesis_run --max-time 20
	@# once more for what is compiled, with bounds checked and lines traced
	RTCORE_TRACE=1 $(BIN)/python setup.py -q build --build-lib build/traced
	PYTHONPATH=build/traced $(BIN)/pytest -q -p no:cacheprovider tests/test_audio*.py tests/protocol tests/media tests/turn

check: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint $(filter %.pyx %.pxd,$(EXTENSIONS))

bench: build
	$(BIN)/python -m bench

lock: # renew the pins; needs uv
	uv pip compile --universal --python-version 3.11 --all-extras --group dev -q pyproject.toml -o requirements.lock

clean:
	rm -rf build dist .venv *.egg-info
	find . -name '*.so' -not -path './.venv/*' -delete
