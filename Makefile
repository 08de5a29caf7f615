# make help says what there is. Everything here is also `python -m imagegen_tf ...`.

PYTHON  =
CHAPTER =
PROFILE =
GPU     =
FAST    =
BASE    =
SET     =
SUBMISSIONS =
WHEELS  =

VENV_PYTHON := .venv/bin/python
# Once installed for a GPU, always for a GPU.
LOCK := $(if $(GPU)$(wildcard .venv/gpu),requirements-gpu.lock,requirements.lock)
# The installation is up to date if this sum of all that it depends on stands in .venv/installed.
SUM   = { pwd; cat $(LOCK) pyproject.toml; } | cksum

# From a folder of packages, without the network: make install WHEELS=build/wheelhouse
ifneq ($(WHEELS),)
export PIP_NO_INDEX   = 1
export PIP_FIND_LINKS = $(WHEELS)
endif

.PHONY: help install lock doctor lab run check test test-browser release-check bench results notebooks \
  student grade site wheelhouse

help:
	@echo 'make lab                 open the course in the browser (installs it first, as all do)'
	@echo 'make doctor              say what this machine has, and what is missing'
	@echo 'make run                 execute all chapters; web pages go to runs/pages'
	@echo 'make run CHAPTER=02      execute one; PROFILE=full for hours instead of minutes;'
	@echo '                         SET="PHOTO=coffee" changes a parameter'
	@echo 'make test                check style, run the unit tests, execute every chapter'
	@echo 'make check CHAPTER=02    the same with this one chapter only'
	@echo 'make notebooks           execute chapters in place and store their outputs'
	@echo 'make bench               measure ratios against baselines; FAST=1 skips the long parts,'
	@echo '                         BASE=old.json compares with an earlier run'
	@echo 'make results             write RESULTS.md from what is kept in data/results'
	@echo 'make student             write the graded labs as students get them to runs/student'
	@echo 'make grade SUBMISSIONS=folder   grade the labs in folder/STUDENT/'
	@echo 'make site                build the site from the stored outputs, into build/site'
	@echo 'make test-browser        use five chapters in JupyterLab with Chromium'
	@echo 'make release-check       check what a release promises: locks, documents, kept results'
	@echo 'make wheelhouse          collect all packages in build/wheelhouse, to carry them; there:'
	@echo '                         make install WHEELS=build/wheelhouse'
	@echo 'make install             only install, into .venv; GPU=1 for an NVIDIA GPU on Linux'
	@echo 'make lock                bring both locks in line with pyproject.toml'
	@echo 'PYTHON=python3.12        install with this Python'

install:
	@if [ -n "$(PYTHON)" ] && [ -x $(VENV_PYTHON) ]; then \
	  if ! "$(PYTHON)" -c '$(FITS)' 2>/dev/null; then \
	    echo 'PYTHON=$(PYTHON) is no Python 3.11, 3.12 or 3.13.' >&2; exit 1; \
	  elif [ "$$("$(PYTHON)" --version)" != "$$($(VENV_PYTHON) --version)" ]; then \
	    echo 'Another Python is in .venv: it is made anew.'; rm -rf .venv; \
	  fi; \
	fi
	@if [ "$$($(SUM))" = "$$(cat .venv/installed 2>/dev/null)" ]; then exit 0; fi; \
	set -e; \
	if [ -n "$(GPU)" ] && [ "$$(uname -s)" != Linux ]; then \
	  echo 'GPU=1 needs an NVIDIA GPU and Linux (on Windows: WSL2).' >&2; exit 1; \
	fi; \
	if [ "$$(uname -sm)" = 'Darwin x86_64' ]; then \
	  echo 'TensorFlow is no longer made for Macs with an Intel processor.' >&2; exit 1; \
	fi; \
	if ! $(VENV_PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(FIND_PYTHON); \
	  echo "Making .venv with $$("$$found" --version)."; \
	  "$$found" -m venv --clear .venv; \
	fi; \
	rm -f .venv/installed; \
	echo 'Installing the packages of $(LOCK) into .venv ($(FROM)).'; \
	$(PIP) --require-hashes -r $(LOCK); \
	$(PIP) --no-deps --no-build-isolation -e .; \
	case $(LOCK) in *gpu*) touch .venv/gpu;; esac; \
	$(SUM) > .venv/installed; \
	echo 'Installed.'

lock: install
	@$(COMPILE) $(EXTRAS) -o requirements.lock
	@$(COMPILE) $(EXTRAS) --extra gpu --constraint requirements.lock -o requirements-gpu.lock
	@$(COMPILE) --group browser --constraint requirements.lock -o requirements-browser.lock

doctor: install
	@$(VENV_PYTHON) -m imagegen_tf doctor

lab: install
	@$(VENV_PYTHON) -m imagegen_tf lab

run: install
	@$(VENV_PYTHON) -m imagegen_tf run $(CHAPTER) $(if $(PROFILE),--profile $(PROFILE)) \
	  $(if $(SET),--set $(SET))

check: install
	@$(VENV_PYTHON) -m imagegen_tf test $(if $(CHAPTER),--chapter $(CHAPTER))

test: install
	@$(VENV_PYTHON) -m imagegen_tf test

bench: install
	@$(VENV_PYTHON) -m tests.benchmarks $(if $(FAST),--fast) $(if $(BASE),--base '$(BASE)')

results: install
	@$(VENV_PYTHON) -m imagegen_tf results

notebooks: install
	@$(VENV_PYTHON) -m imagegen_tf notebooks $(CHAPTER)

student: install
	@$(VENV_PYTHON) -m imagegen_tf student

grade: install
	@if [ -z "$(SUBMISSIONS)" ]; then \
	  echo 'Say where the submissions are: make grade SUBMISSIONS=folder' >&2; exit 1; \
	fi
	@$(VENV_PYTHON) -m imagegen_tf grade "$(SUBMISSIONS)"

site: install
	@$(VENV_PYTHON) -m imagegen_tf site

test-browser: install
	@$(PIP) --require-hashes -r requirements-browser.lock
	@$(VENV_PYTHON) -m pytest tests/browser

release-check: install
	@$(VENV_PYTHON) -m pytest tests/release

wheelhouse: install
	@$(VENV_PYTHON) -m pip download -qq --disable-pip-version-check --require-hashes -r $(LOCK) \
	  --dest build/wheelhouse
	@echo 'Packages for this system and Python: build/wheelhouse'

SIZE := $(if $(findstring gpu,$(LOCK)),about 3.5 GB,about 800 MB)
FROM := $(if $(WHEELS),from $(WHEELS),$(SIZE) to download, once)
PIP  := $(VENV_PYTHON) -m pip install -qq --disable-pip-version-check
COMPILE := $(VENV_PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-header
EXTRAS  := pyproject.toml --extra dev --extra teach

# Sets the shell variable `found` to the first Python that runs and fits, or says what to install.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FIND_PYTHON = found=; other=; no_venv=; \
  for each in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do \
    version=$$("$$each" --version 2>&1) || continue; \
    if ! "$$each" -c '$(FITS)' 2>/dev/null; then other=" (found $$version)"; \
    elif ! "$$each" -c 'import ensurepip, venv' 2>/dev/null; then no_venv=$$version; \
    else found=$$each; break; fi; \
  done; \
  if [ -z "$$found" ]; then \
    if [ -n "$$no_venv" ]; then \
      echo "$$no_venv lacks its venv module; Debian and Ubuntu: apt install python3-venv"; \
    else \
      echo "Install Python 3.11, 3.12 or 3.13$$other, or name one with PYTHON=..."; \
    fi >&2; \
    exit 1; \
  fi
