# `make java` and `make test` need nothing but a Debian machine with make: they install what is missing.
# A second run installs nothing; `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What pybuild runs on, and what FROM mmdebstrap:// takes.
JAVA_PACKAGES := ca-certificates debian-archive-keyring git gpgv mmdebstrap python3 python3-venv
# The other tools of the field, which the tests compare with and hand our images to; and shells, compilers, terminals.
TEST_PACKAGES := $(JAVA_PACKAGES) \
	buildah busybox-static chromium crun curl docker-registry e2fsprogs fish fuse-overlayfs gcc gpg gpg-agent libc6-dev libcap2-bin oci-image-tool \
	openssh-client openssl passt podman qemu-user-static runc skopeo slirp4netns tmux uidmap umoci xz-utils zsh zstd
# docker.io is BuildKit: the bench starts a daemon of its own. Without an init system the package starts none.
BENCH_PACKAGES := $(JAVA_PACKAGES) buildah docker-registry docker.io e2fsprogs gcc libc6-dev runc skopeo umoci

# A directory stands for the files that were removed from it.
SOURCES := pyproject.toml $(shell find builder cache grammar pybuild_testinfra \
	\( -name __pycache__ -prune \) -o \( -type d -o -name '*.py' -o -name '*.lark' -o -path '*/view/web/*' \) -print)

KILLS ?= 200
MINUTES ?= 5
TARGETS ?= recipe tar ignore document
ARGS ?=

# $(call packages,NAMES): install those of Debian's packages that are missing.
define packages
	missing=(); \
	for name in $(1); do \
		[[ $$(dpkg-query -W -f '$${db:Status-Status}' $$name 2>/dev/null) == installed ]] || missing+=($$name); \
	done; \
	if (($${#missing[@]})); then \
		echo "installing Debian packages: $${missing[*]}"; \
		$(SUDO) apt-get -qq update; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$${missing[@]}" >/dev/null; \
	fi
endef

.PHONY: help
help: ## list what there is
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: java
java: $(VENV)/.java-packages $(VENV)/.installed ## build recipes/java.rec from Debian's packages, run it, ask it something
	$(SUDO) $(BIN)/pybuild recipes/java.rec -t java-demo
	$(SUDO) $(BIN)/python recipes/ask.py $(BIN)/pybuild java-demo '/hello?name=you'

.PHONY: test
test: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## everything that a change must pass: ruff, mypy, pytest
	$(SUDO) $(BIN)/python tests/run.py $(ARGS)

.PHONY: lint
lint: $(VENV)/.developing ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: install
install: $(VENV)/.installed ## pybuild in .venv/bin
	@$(BIN)/pybuild --version

.PHONY: foreign
foreign: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## build all recipes/ for another architecture, and run them
	$(SUDO) env FOREIGN="static debian java python found" $(BIN)/pytest -v tests/recipes/test_foreign.py $(ARGS)

.PHONY: bench
bench: $(VENV)/.bench-packages $(VENV)/.benching ## compare with other builders, as ratios (ARGS=--help: what can be chosen)
	$(SUDO) $(BIN)/python -m bench.run $(ARGS)

.PHONY: curves
curves: $(VENV)/.bench-packages $(VENV)/.benching ## what grows with steps, files, bytes and depth
	$(SUDO) $(BIN)/python -m bench.curves $(ARGS)

.PHONY: kills
kills: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## kill builds at KILLS=200 random instants, and build again after each
	$(SUDO) $(BIN)/python tests/campaigns/kills.py $(KILLS) $(ARGS)

.PHONY: outages
outages: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## kill a registry at 50 points of a push, a pull, a fetch and a shared cache (ARGS="10 --scene push")
	$(SUDO) $(BIN)/python tests/campaigns/registry_kills.py $(ARGS)

.PHONY: sharedcache
sharedcache: $(VENV)/.test-packages $(VENV)/.installed ## count the requests and bytes of a shared cache, pybuild's and buildah's, for docs/shared-cache.md
	$(SUDO) $(BIN)/python bench/sharedcache.py $(ARGS)

.PHONY: escapes
escapes: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## the escape suite with its bombs of gigabytes and layers of millions of entries
	$(SUDO) $(BIN)/python tests/campaigns/escapes.py $(ARGS)

.PHONY: rootless
rootless: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## build all recipes as root, with subordinate ids and with a single id, and compare
	$(SUDO) $(BIN)/python tests/campaigns/rootless.py $(ARGS)

.PHONY: properties
properties: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## try the tests that make up their input with much more of it
	$(SUDO) $(BIN)/pytest -m hypothesis --hypothesis-profile=fuzz $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.fuzzing ## fuzz each reader for MINUTES=5 (TARGETS=recipe: only that), and keep what reaches new code
	for target in $(TARGETS); do $(SUDO) $(BIN)/python tests/fuzz/run.py $$target $$((60 * $(MINUTES))) --keep; done

.PHONY: screenshot
screenshot: $(VENV)/.test-packages $(VENV)/.developing $(VENV)/.installed ## make docs/view.png anew: the page of recipes/java.rec's image
	$(SUDO) $(BIN)/python docs/screenshot.py $(ARGS)

.PHONY: wheel
wheel: $(VENV)/.developing ## dist/pybuild-*.whl
	rm -rf build *.egg-info
	$(BIN)/python -m build --wheel
	rm -rf build *.egg-info

.PHONY: clean
clean: ## remove everything that make made; images stay in their store
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps. Each is made anew when what it stands for has changed.

$(VENV)/.%-packages: Makefile
	@if command -v dpkg-query >/dev/null; then \
		$(call packages,$($(shell echo $* | tr a-z A-Z)_PACKAGES)); \
	else \
		echo "not a Debian system: $($(shell echo $* | tr a-z A-Z)_PACKAGES) must be there already"; \
	fi
	@mkdir -p $(VENV)
	@touch $@

# Debian's own Python where it is new enough, else the first one that is; with the packages that give it a venv.
$(VENV)/.python: | $(VENV)/.java-packages
	@for python in $(PYTHON) /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			"$$python" -m venv $(VENV); touch $@; exit; \
		fi; \
	done; \
	echo "no Python from 3.11 on with venv; name one: make PYTHON=..." >&2; exit 1

# As a wheel and not editable: what is tested is what users get, and its bytecode is compiled. With testinfra, since the
# recipes have TEST --testinfra.
$(VENV)/.installed: $(SOURCES) | $(VENV)/.python
	rm -rf build *.egg-info
	$(PIP) install '.[testinfra]'
	rm -rf build *.egg-info
	@touch $@

$(VENV)/.benching: pyproject.toml | $(VENV)/.installed
	rm -rf build *.egg-info
	$(PIP) install '.[bench]'
	rm -rf build *.egg-info
	@touch $@

$(VENV)/.fuzzing: pyproject.toml | $(VENV)/.installed
	rm -rf build *.egg-info
	$(PIP) install '.[fuzz]'
	rm -rf build *.egg-info
	@touch $@

$(VENV)/.developing: pyproject.toml | $(VENV)/.installed
	rm -rf build *.egg-info
	$(PIP) install '.[dev]'
	rm -rf build *.egg-info
	@touch $@
