# Everything a checkout can do. `make` lists it; `make demo` and `make test` need nothing done before them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GUEST = $(BIN)/python tests/kernel/guest/run.py -e PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
# An emulated machine may stand still for longer than a test allows. A test that fails in one must pass in a new one. Status 1:
# some tests failed; any other failure is the run's own.
in_guest = $(GUEST) $(1) || { [ $$? = 1 ] && echo "Once more, in a new machine:" >&2 && $(GUEST) $(1); }
# Each file has a machine of its own, but for those of services, which share one.
KERNEL_FILES := $(filter-out %_service.py,$(wildcard tests/kernel/test_*.py))
# A worker for each processor; one that has nothing left to do takes tests from another.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist worksteal
# Every public name must have a type that any type checker finds without guessing.
VERIFY_TYPES = PYTHONPATH=. $(BIN)/pyright --pythonpath $(BIN)/python --ignoreexternal --verifytypes
BENCHMARKS := core scale startup threads ports echo

# Compiled files are kept even where the shell says otherwise: the tests start hundreds of programs.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: $(KERNEL_FILES) guest kernel-services help demo test compiled clean-compiled test-compiled fuzz sanitize leaks coverage test-clients test-scripts test-gpiozero test-kernel test-kernel-install test-sigrok deb test-deb test-wheels test-ansible test-cloud-init check conformance docs docs-serve bench bench-all soak chaos figures known-parts loops-to-compare bench-compare bench-record mutation release-check lock format clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# A stamp per set of dependencies: a second call finds it newer than pyproject.toml and does nothing.
$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/installed-compile: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[compile]'
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

$(VENV)/installed-coverage: $(VENV)/installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,plot,compile]'
	touch $@

$(VENV)/installed-clients: $(VENV)/installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,clients]'
	touch $@

$(VENV)/installed-check: $(VENV)/installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	touch $@

$(VENV)/installed-mutation: $(VENV)/installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,mutation]'
	touch $@

$(VENV)/installed-release: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[release]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

demo: $(VENV)/installed  ## run the main job on the simulated board (about ten seconds)
	$(BIN)/hwloop demo

test: $(VENV)/installed-test  ## run the tests on the simulated board (a minute or two; the slow ones and those below are apart)
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" --ignore tests/clients --ignore tests/scripts

compiled: $(VENV)/installed-compile  ## compile the core in this checkout (a C compiler); HWLOOP_PURE=1 runs the sources again
	$(BIN)/python tools/compile_core.py

clean-compiled:  ## remove what `make compiled` made
	$(PYTHON) tools/compile_core.py --clean

test-compiled: $(VENV)/installed-test compiled  ## run the tests of `make test`, and conformance, on the compiled core
	HWLOOP_PURE= HWLOOP_EXPECT_COMPILED=1 $(BIN)/python -m pytest $(PARALLEL) -m "not slow" --ignore tests/clients --ignore tests/scripts
	HWLOOP_PURE= $(PYTHON) tests/conformance/run.py --python $(BIN)/python

# In copies of the checkout below build/compiled, which compile a core of their own.
fuzz: $(VENV)/installed-compile  ## random programs on the compiled core beside the sources: no crash, no difference (SECONDS=600 SEED=N)
	$(BIN)/python tests/compiled/fuzz.py --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

sanitize: $(VENV)/installed-test $(VENV)/installed-compile  ## tests of the loop and the soak on a core compiled with the address sanitizer (SECONDS=600, of the soak)
	$(BIN)/python tests/compiled/run.py sanitize --seconds $(or $(SECONDS),600)

leaks: $(VENV)/installed-test $(VENV)/installed-compile  ## tests of the loop many times in one process, on the compiled core: what does each leave behind?
	$(BIN)/python tests/compiled/run.py leaks

# Tracing makes everything two or three times slower. A test that fails under it must pass without. Status 1: some failed;
# any other failure is the run's own, and no test can make up for it. Tests that failed in earlier runs are forgotten.
coverage mutation: export HWLOOP_PURE = 1

coverage: $(VENV)/installed-coverage  ## run these and the slow tests; fail if they cover less than 95 % of lines and branches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q $(PARALLEL) --cache-clear --ignore tests/scripts \
		|| { [ $$? = 1 ] && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --ignore tests/scripts; }
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-clients: $(VENV)/installed-clients  ## run aiohttp, anyio, uvicorn and others on the loop (installs them)
	$(BIN)/python -m pytest tests/clients

build/scripts/installed: pyproject.toml tests/scripts/requirements.txt
	mkdir -p build/scripts
	test -x build/scripts/venv/bin/python || $(PYTHON) -m venv build/scripts/venv
	build/scripts/venv/bin/pip install --quiet --disable-pip-version-check \
	    --editable '.[test]' --requirement tests/scripts/requirements.txt
	# Some drivers bring another RPi.GPIO, whose files replace those of rpi-lgpio.
	build/scripts/venv/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
	    $$(grep -i ^rpi-lgpio tests/scripts/requirements.txt)
	touch $@

test-scripts: build/scripts/installed  ## run third-party scripts and drivers on the simulated board (installs them), and count them
	build/scripts/venv/bin/python -m pytest $(PARALLEL) tests/scripts $(ONLY)

test-gpiozero: $(VENV)/installed-test  ## gpiozero's own tests on our pin factories (downloads them)
	$(BIN)/python tests/gpiozero/run.py

test-kernel: kernel-services $(KERNEL_FILES)  ## run tests/kernel on a real kernel's GPIO, in emulated machines (makes them: apt, root; -j2: two at once)

$(KERNEL_FILES): guest
	$(call in_guest,-t 900 -- $(BIN)/python -m pytest -q $@)

kernel-services: guest
	$(call in_guest,-t 1500 -S -- $(BIN)/python -m pytest -q $(filter-out %_installed_service.py,$(wildcard tests/kernel/test_*service.py)))

# An installation takes minutes in the emulator, longer than a test may hang elsewhere.
test-kernel-install: guest  ## install, upgrade and remove services in that machine, and follow the tutorial (about ten minutes)
	$(call in_guest,-t 2700 -S -- $(BIN)/python -m pytest -q -o faulthandler_timeout=1500 tests/kernel/test_installed_service.py)

guest: $(VENV)/installed-test
	$(BIN)/python tests/kernel/guest/prepare.py

test-sigrok: $(VENV)/installed-test  ## decode traces with sigrok-cli (installs it where it is missing: apt, root)
	command -v sigrok-cli || apt-get install --yes --no-install-recommends sigrok-cli
	$(BIN)/python -m pytest tests/trace/test_sigrok.py

deb: $(VENV)/installed  ## build Debian's package in build/deb (RELEASE=trixie ARCH=arm64 for another machine than this)
	$(BIN)/python packaging/deb.py $(if $(RELEASE),--release $(RELEASE)) $(if $(ARCH),--arch $(ARCH))

test-deb: $(VENV)/installed  ## install, upgrade, remove and purge Debian's package in clean bookworm and trixie trees (makes them: apt, root)
	$(BIN)/python tests/debian/run.py

test-wheels: $(VENV)/installed-release $(VENV)/installed-compile  ## build wheels for this machine, aarch64 and armv7, and try each where it is installed (Debian's cross compilers, qemu-user-static, debootstrap, root)
	$(BIN)/python tests/debian/wheels.py $(ONLY)

test-ansible: $(VENV)/installed  ## check deploy/ansible, and run it twice in clean trees (after test-deb: apt, root)
	$(BIN)/python tests/debian/ansible.py

test-cloud-init: $(VENV)/installed  ## check deploy/cloud-init, and run its commands in a clean tree (after test-deb: apt, root)
	$(BIN)/python tests/debian/cloud_init.py

check: $(VENV)/installed-check  ## check formatting, lint, spelling, prose, types, and the rules of the architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/python tools/prose.py
	$(BIN)/mypy
	$(VERIFY_TYPES) hwloop
	$(VERIFY_TYPES) firmware_sim
	$(BIN)/python -m pytest -q tests/test_architecture.py

conformance:  ## CPython's own asyncio tests on our loop (INTERPRETERS="python3 ..." for these only)
	$(PYTHON) tests/conformance/run.py $(addprefix --python ,$(INTERPRETERS))

docs: $(VENV)/installed-docs  ## build the documentation site in build/site; a broken link or anchor fails
	NO_COLOR=1 $(BIN)/zensical build --strict --clean

docs-serve: $(VENV)/installed-docs  ## show the documentation on http://localhost:8000, and follow changes
	$(BIN)/zensical serve

bench: $(VENV)/installed  ## timers and edges against asyncio, in turn (about four minutes)
	$(BIN)/hwloop bench

bench-all: bench  ## all that benchmarks/ measures as well (about six minutes more)
	for part in $(BENCHMARKS); do $(BIN)/python benchmarks/$$part.py || exit 1; done

soak: $(VENV)/installed  ## 500 loops, a million callbacks, random exceptions: does anything grow? (about a minute)
	$(BIN)/python benchmarks/soak.py

chaos: $(VENV)/installed-test  ## a thousand schedules of faults on the demo: no crash, hang, leak or uncounted loss (SCHEDULES=1000 SEED=0; five minutes)
	$(BIN)/python tests/chaos/run.py --schedules $(or $(SCHEDULES),1000) --seed $(or $(SEED),0)

# The figures of both cores and of other loops. Whatever can't be compiled or installed here is left out of the table, which says
# so. An earlier compilation would not be that of today's sources.
figures: known-parts loops-to-compare
bench-record: loops-to-compare
# With any Python, because nothing is installed yet.
known-parts:
	@$(PYTHON) benchmarks/table.py $(PARTS) --check
loops-to-compare: $(VENV)/installed
	-$(MAKE) $(VENV)/installed-bench
	$(MAKE) compiled || $(MAKE) clean-compiled

figures:  ## the table of all figures asked and measured, for both cores and uvloop (PARTS="timers core"; ten to fifteen minutes; compiles the core)
	$(BIN)/python benchmarks/table.py $(or $(PARTS),--all) --keep build/figures.json

mutation: $(VENV)/installed-mutation  ## change the core in small ways, and show the changes that no test notices
	$(BIN)/python tests/mutation/run.py

release-check: $(VENV)/installed-release  ## build sdist and wheels, install each in a new environment, run the demo there (a C compiler)
	$(BIN)/python tools/release.py check

bench-compare: $(VENV)/installed  ## compare two versions: OLD=v0.1.0 NEW=. (git revisions, "." or JSON files; about fifteen minutes)
	$(BIN)/python benchmarks/compare.py $(OLD) $(NEW) $(if $(ONLY),--only $(ONLY))

bench-record:  ## measure all figures for benchmarks/history/ (about twenty minutes; an idle machine)
	$(BIN)/python benchmarks/table.py --all --instructions --keep \
	    benchmarks/history/$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' hwloop/__init__.py).json

lock:  ## renew .ci/constraints.txt, the versions that .ci/run installs, and packaging/requirements.txt
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check '.[test,trace,clients,check,mutation,release,plot,docs,bench,compile]' \
	    --requirement tests/scripts/requirements.txt
	build/lock/bin/pip freeze --exclude hwloop > .ci/constraints.txt
	build/lock/bin/python packaging/lock.py

format: $(VENV)/installed-check  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: clean-compiled  ## remove the virtual environment, compiled modules and caches
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build *.egg-info
	find . -name __pycache__ -prune -exec rm -r {} +
