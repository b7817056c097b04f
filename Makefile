# make demo and make test set up everything that they need; see README.md.

PYTHON ?= python3
# Further options of pytest, such as --last-failed.
PYTEST_OPTIONS ?=
ifdef ROS_DISTRO
RUN := . install/local_setup.sh && .venv/bin/python
else
RUN := .venv/bin/python
endif
# One of the two processes of the tests takes all that talk over DDS, one after the other.
PYTEST := $(RUN) -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder $(PYTEST_OPTIONS)

.PHONY: demo demo-ui test test-quick test-slow test-all test-search test-fleet coverage lint docs setup setup-test clean

demo: setup
	@$(RUN) -m epvlm_ros.demo --output build/demo

# The same, with a page in the browser until Ctrl-C.
demo-ui: setup
	@$(RUN) -m epvlm_ros.demo --output build/demo --ui

test: setup-test
	@$(PYTEST) -m 'not slow'

# For the edit loop: nothing that starts processes or takes long.
test-quick: setup-test
	@$(PYTEST) -m 'not slow and not long and not ros and not process and not gpu' --ignore test/ros --durations 5 --durations-min 2

test-slow: setup-test
	@$(PYTEST) -m slow

test-all: test test-slow

# Other examples in each run, for the tests that hypothesis makes up; what it finds is a new test.
test-search: setup-test
	@$(PYTEST) -m hypothesis --hypothesis-profile search

# The plug-in for vLLM, in an environment of its own; see docs/fleet.md.
test-fleet:
	@$(PYTHON) scripts/set_up_fleet.py
	@cd epvlm_vllm && ../.venv-fleet/bin/python -m pytest --durations 5 --durations-min 5 $(PYTEST_OPTIONS)

coverage: setup-test
	@$(PYTEST) -m 'not slow' --cov epvlm_ros --cov-report term:skip-covered --cov-report html:build/coverage

lint: setup-test
	@$(RUN) -m pytest test/test_style.py

# The tree of modules and the tables of parameters in docs/, from the code.
docs:
	@$(PYTHON) scripts/write_docs.py

setup:
	@$(PYTHON) scripts/set_up.py

setup-test:
	@$(PYTHON) scripts/set_up.py --test

clean:
	@$(PYTHON) scripts/set_up.py --clean
	@$(PYTHON) scripts/set_up_fleet.py --clean
