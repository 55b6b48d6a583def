# `make help` lists the targets. All of them work from a clean clone: scripts/bootstrap sets up what is missing.

# Where `make install` puts things; Xen's own build uses the same names.
prefix ?= /usr/local
LIBEXEC_BIN ?= $(prefix)/lib/xen/bin
SHAREDIR ?= $(prefix)/share
DESTDIR ?=
# The Xen and the QEMU to build from: anything that `xenqemu build` takes as --xen and --qemu.
XEN_ROOT ?=
QEMU_SRC ?=
# Words for `scripts/bootstrap`, `xenqemu build`, `xenqemu lab cases`, pytest, scripts/contract-table, the benchmark and
# scripts/newcomer.
BOOTSTRAP_FLAGS ?=
BUILD_FLAGS ?=
LAB_FLAGS ?=
PYTEST_FLAGS ?=
CONTRACT_FLAGS ?=
BENCH_FLAGS ?=
NEWCOMER_FLAGS ?=

python := .venv/bin/python
shell_scripts := scripts/bootstrap scripts/lock .ci/run
python_scripts := scripts/contract scripts/contract-table scripts/newcomer scripts/record scripts/state-table \
	scripts/troubleshooting scripts/xl-keys
quoted = '$(subst ','\'',$(1))'

# MAKEFLAGS is complete only while a recipe runs, so these are expanded there. Its first word has the short options;
# no job count means as many jobs as processors, which is the default of `xenqemu build` too.
silent = $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
jobs = $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS)))
# A CC that nobody set is make's own default, which must not override the settings of xenqemu.
cc = $(if $(filter default undefined,$(origin CC)),,--cc $(call quoted,$(CC)))

# Variables of this make would otherwise reach the make that builds Xen's libraries and be taken for Xen's own there.
xenqemu = env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u DESTDIR -u prefix -u XEN_ROOT .venv/bin/xenqemu
build = $(xenqemu) $(if $(silent),--quiet) build $(if $(QEMU_SRC),--qemu $(call quoted,$(QEMU_SRC))) \
	$(if $(XEN_ROOT),--xen $(call quoted,$(XEN_ROOT))) $(if $(jobs),--jobs $(jobs)) $(cc) $(BUILD_FLAGS)

# When this make began, and how long that is ago, as xenqemu says it (format_seconds in xenqemu/ui.py).
started := $(shell date +%s)
took = s=$$(($$(date +%s) - $(started))); [ $$s -lt 60 ] || printf '%s min ' $$((s / 60)); echo "$$((s % 60)) s"

.PHONY: all build boot setup setup-boot setup-test install clean distclean help
.PHONY: test unit integration lab contract fuzz lint bench docs newcomer

all: boot ## set up, build the default QEMU into ./dist, boot a guest with it

build: setup ## set up, then build the default QEMU into ./dist
	@$(build) --out dist $(if $(silent),>/dev/null)

boot: setup-boot build ## boot a guest with ./dist, under a real Xen in an emulated host
	@$(xenqemu) $(if $(silent),--quiet) lab cases boot-sector --dm dist/bin/qemu-system-xen $(LAB_FLAGS) \
		$(if $(silent),>/dev/null)
	@$(if $(silent),:,echo "from make to a booted guest: $$($(took))" >&2)

setup: ## Debian packages (as root) and the virtual environment .venv
	@scripts/bootstrap --for build $(BOOTSTRAP_FLAGS)

setup-boot: ## the same, with what the lab needs
	@scripts/bootstrap --for boot $(BOOTSTRAP_FLAGS)

setup-test: ## the same, with what the tests need
	@scripts/bootstrap --for test $(BOOTSTRAP_FLAGS)

install: setup ## build and install: DESTDIR= prefix= LIBEXEC_BIN= SHAREDIR= XEN_ROOT= QEMU_SRC=
	@$(build) --prefix $(call quoted,$(prefix)) --libexec-bin $(call quoted,$(LIBEXEC_BIN)) \
		--share-dir $(call quoted,$(SHAREDIR)) --destdir $(call quoted,$(or $(DESTDIR),/)) \
		$(if $(silent),>/dev/null)

test: unit integration lab ## all tests

unit: setup-test ## the tests that take seconds, with coverage
	@$(python) -m pytest tests/unit --numprocesses auto --dist worksteal --cov --cov-report=term --cov-fail-under=90 $(PYTEST_FLAGS)

integration: setup-test ## the tests that build real QEMUs
	@$(python) -m pytest --durations 10 tests/integration $(PYTEST_FLAGS)

# An emulated host has one processor, so several run at once, a file of tests each.
lab: setup-test ## the tests that boot real guests
	@$(python) -m pytest -v --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 10 \
		tests/lab $(PYTEST_FLAGS)

contract: setup-test ## what xl can ask for, on every QEMU under every Xen: hours, and docs/contract-table.md
	@$(python) scripts/contract-table $(CONTRACT_FLAGS)

fuzz: setup-test ## 100,000 VM configs against Xen's own parser
	@$(python) -m pytest tests/fuzz $(PYTEST_FLAGS)

lint: setup-test ## formatting, style, types, shell scripts
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy
	@$(python) -m mypy $(python_scripts)
	@shellcheck $(shell_scripts)

bench: setup-test ## measure against the guide's build and others, into docs/benchmarks.md
	@$(xenqemu) bench --all --page docs/benchmarks.md $(BENCH_FLAGS)

docs: setup-test ## the documentation as a site, in ./build/site
	@$(python) -m mkdocs build --strict

newcomer: setup ## as root: the time from a new Debian and a clone to a booted guest, in a root of its own
	@$(python) scripts/newcomer $(NEWCOMER_FLAGS)

clean: ## remove ./dist and caches
	@rm -rf dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## also remove .venv
	@rm -rf .venv
	@echo "xenqemu's state directory stays: sources, trees and artifacts of all builds." \
		"It is \$$XENQEMU_STATE_DIR, by default ~/.local/state/xenqemu; rm -r costs only time."

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
