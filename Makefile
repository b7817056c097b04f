# make demo and make test set up everything that they need; see README.md.

PYTHON ?= python3
ifdef ROS_DISTRO
RUN := . install/local_setup.sh && .venv/bin/python
else
RUN := .venv/bin/python
endif

.PHONY: demo test lint setup setup-test clean

demo: setup
	@$(RUN) -m epvlm_ros.demo --output build/demo

test: setup-test
	@$(RUN) -m pytest

lint: setup-test
	@$(RUN) -m pytest test/test_style.py

setup:
	@$(PYTHON) scripts/set_up.py

setup-test:
	@$(PYTHON) scripts/set_up.py --test

clean:
	rm -rf .venv build install log
