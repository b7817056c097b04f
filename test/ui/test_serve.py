"""The process of the page: what it loads, prints and refuses."""

import subprocess
import sys

from epvlm_ros.ui.access import Access
from epvlm_ros.ui.serve import describe_address
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.process]
TOKEN = 'a token of some length'


def epvlm_ui(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'epvlm_ros.cli', 'ui', *arguments], text=True,
        capture_output=True, timeout=120)


def test_the_page_loads_no_model_libraries():
    script = 'import epvlm_ros.ui.serve, sys; print({"torch", "transformers"} & set(sys.modules))'
    result = subprocess.run(
        [sys.executable, '-c', script], text=True, capture_output=True, check=True)
    assert result.stdout == 'set()\n'


@pytest.mark.parametrize('arguments, words', [
    (['--address', '0.0.0.0'], 'address 0.0.0.0 can be reached by others: give a token'),
    (['--port', '70000'], '--port is 70000: give 0 to 65535'),
    (['--rate', '0'], '--rate is 0.0: give more than 0, at most 60'),
    (['--rate', 'nan'], '--rate is nan'),
    (['--namespace', 'no space'], 'Invalid namespace'),
    (['--frames', 'no topic'], 'Invalid topic name')])
def test_what_cannot_be_had_is_one_line(arguments, words):
    result = epvlm_ui(*arguments)
    assert result.returncode == 1 and not result.stdout
    assert words in result.stderr and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith('epvlm ui: ')


@pytest.mark.parametrize('access, words', [
    (Access(), 'http://127.0.0.1:80/'), (Access('::1'), 'http://[::1]:80/'),
    (Access('0.0.0.0', TOKEN), 'port 80 of this machine, at 0.0.0.0; it asks for the token')])
def test_the_address_is_printed_and_never_the_token(access, words):
    text = describe_address(access, 80)
    assert words in text and TOKEN not in text
