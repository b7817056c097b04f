"""The linters of ROS 2 and the type checker find nothing."""

from pathlib import Path
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ['bench', 'epvlm_ros', 'epvlm_vllm', 'launch', 'scripts', 'setup.py', 'test', 'training']


def run(*command):
    result = subprocess.run(
        [sys.executable, '-m', *command], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[:5000] + result.stderr[-2000:]


def test_flake8():
    run('ament_flake8.main', '--linelength', '99', *SOURCES)


def test_pep257():
    # Names of tests say what they test.
    run('ament_pep257.main', *[source for source in SOURCES if source != 'test'])


def test_mypy():
    pytest.importorskip('mypy')
    run('mypy')


def test_spelling():
    pytest.importorskip('codespell_lib')
    files = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip('no git checkout')
    run('codespell_lib', *files.stdout.splitlines())
