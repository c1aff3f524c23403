# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` do everything, set-up included, on Debian 12 with Python 3.11.
# Paths are relative, and quoted where they are not: the directory may have a space in its name.
.PHONY: help demo test soak bench check lint format setup-demo setup-test clean

PYTHON = python3
VENV_PYTHON = .venv/bin/python
FIRMWARE = examples/firmware
BUILD = build/demo
C_FILES = $(shell git ls-files 'runtime/*.[ch]' 'boards/*.[ch]' 'examples/*.[ch]')

help:
	@echo "make demo    train a small network and run it on an emulated Cortex-M4"
	@echo "make test    all tests; minutes"
	@echo "make soak    the long campaigns that make test leaves out; an hour"
	@echo "make bench   measure all models on all boards: budgets.csv, the README's table"
	@echo "make check   format, lint, types and the quick tests; under a minute"
	@echo "make format  format the Python and the C"
	@echo "make clean   remove what was built; .venv stays"

demo: setup-demo $(FIRMWARE)/model.pt2
	cmake -S $(FIRMWARE) -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release \
		--toolchain "$(CURDIR)/toolchains/cortex-m4.cmake"
	cmake --build $(BUILD)
	ctest --test-dir $(BUILD) --output-on-failure
	cmake --build $(BUILD) --target run
	$(VENV_PYTHON) $(FIRMWARE)/compare.py

$(FIRMWARE)/model.pt2: $(FIRMWARE)/train.py | setup-demo
	$(VENV_PYTHON) $<

test: lint
	$(VENV_PYTHON) -m pytest -n 2 -m "not soak"

soak: setup-test
	$(VENV_PYTHON) -m pytest -n 2 -m soak

bench: setup-test
	$(VENV_PYTHON) scripts/bench-table

check: lint
	$(VENV_PYTHON) -m pytest -n 2 -m "not slow and not soak"

lint: setup-test
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check
	$(VENV_PYTHON) -m mypy
	@echo "clang-format --dry-run -Werror ..." && clang-format --dry-run -Werror $(C_FILES)

format: setup-test
	$(VENV_PYTHON) -m ruff check --fix
	$(VENV_PYTHON) -m ruff format
	clang-format -i $(C_FILES)

setup-demo setup-test: setup-%:
	@PYTHON="$(PYTHON)" scripts/setup $*

clean:
	rm -rf build $(addprefix $(FIRMWARE)/, model.pt2 calibration.npz held_out.h held_out.npz)
