# Two commands do everything: `make demo` and `make test`. Both set up what they need in $(VENV) first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := demo
JOBS ?= 2

.PHONY: help setup demo serve test lint bundle clean

help:
	@echo "make demo [IMAGE=ct.nii.gz LABEL=organs.nii.gz [NAMES=names.json]]  segment the phantom (or a volume of yours) as Slicer would"
	@echo "make serve STUDIES=folder-or-DICOMweb-url       run the server for 3D Slicer and OHIF on 127.0.0.1"
	@echo "make test                                       run all tests"
	@echo "make bundle                                     build the zip of the MONAI bundle in dist/"
	@echo "make lint                                       check the style"

setup: $(VENV)/.ready

# --no-deps: requirements.txt is a complete list, and pip's resolver does not finish on MONAI Label's constraints.
# The list needs no build isolation either, which would ask the network for setuptools once more.
$(VENV)/.ready: requirements.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' || \
	  { echo "Python 3.10 or 3.11 is needed (MONAI Label 0.8.5), got $$($(PYTHON) -V); try make PYTHON=python3.11"; exit 1; }
	@echo "Setting up $(VENV): $$(grep -c == requirements.txt) packages, about 3 GB to fetch and 7 GB on the disk, most of it PyTorch for CUDA."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-deps --progress-bar on -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/python scripts/demo.py --output $(DEMO) $(if $(IMAGE),--image "$(IMAGE)") $(if $(LABEL),--label "$(LABEL)") $(if $(NAMES),--names "$(NAMES)")

serve: setup
	@test -n "$(STUDIES)" || { echo "say which images: make serve STUDIES=folder-or-DICOMweb-url"; exit 1; }
	$(BIN)/monai-sam serve "$(STUDIES)"

# Two tests at a time; those of one file stay together, so that what a file sets up is set up once.
test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TESTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bundle: setup
	$(BIN)/python scripts/make_bundle.py

clean:
	rm -rf $(VENV) $(DEMO) build dist runs *.egg-info
