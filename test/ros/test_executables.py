"""How a node's process ends, whatever it is doing when the signal comes."""

from pathlib import Path
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

# A module with a node that does something at each stage of its life.
MODULE = """
import os
import signal

from rclpy.node import Node

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)

{while_loading}

class SomeNode(Node):

    def __init__(self, should_stop):
        super().__init__('some_node')
        {while_starting}
        print('started, asked to stop' if should_stop() else 'started')
        self.create_timer(0.01, self.work)

    def work(self):
        {while_running}
        print('worked')

    def destroy_node(self):
        print('destroyed')
        super().destroy_node()
"""
RUN = """
from epvlm_ros.ros import executables
executables.NODES['some_node'] = 'some_module', 'SomeNode'
executables.run_node('some_node', [])
"""
# What libraries do when they are interrupted: end with another error, or hide it.
TURNED_INTO_AN_ERROR = """
try:
    interrupt()
except BaseException as error:
    raise ImportError('initialization failed') from error
"""
IN_A_CALLBACK = """
import ctypes
ctypes.CFUNCTYPE(None)(interrupt)()
print('loading went on')
"""


@pytest.fixture
def run(tmp_path: Path):
    def run(
        while_loading: str = '', while_starting: str = '', while_running: str = '',
    ) -> tuple[int, list[str], str]:
        (tmp_path / 'some_module.py').write_text(MODULE.format(
            while_loading=while_loading, while_starting=while_starting,
            while_running=while_running))
        done = subprocess.run(
            [sys.executable, '-c', f'import sys; sys.path.append({str(tmp_path)!r})\n{RUN}'],
            capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.splitlines(), done.stderr
    return run


@pytest.mark.parametrize('code', [
    'interrupt()', 'interrupt(signal.SIGTERM)', "exec('interrupt()')", TURNED_INTO_AN_ERROR,
    IN_A_CALLBACK])
def test_a_signal_while_libraries_load_ends_the_process_at_once(run, code):
    assert run(while_loading=code) == (0, [], '')


@pytest.mark.parametrize('code', ['interrupt()', 'interrupt(signal.SIGTERM)'])
def test_a_signal_while_the_node_starts_ends_it_in_order(run, code):
    assert run(while_starting=code) == (0, ['started, asked to stop', 'destroyed'], '')


def test_a_second_signal_while_the_node_starts_does_not_wait_for_that(run):
    assert run(while_starting='interrupt(); interrupt(signal.SIGTERM)') == (128 + 15, [], '')


@pytest.mark.parametrize('code', ['interrupt()', 'interrupt(); interrupt(signal.SIGTERM)'])
def test_signals_while_the_node_runs_end_it_after_the_callback(run, code):
    assert run(while_running=code) == (0, ['started', 'worked', 'destroyed'], '')


def test_a_thread_that_goes_on_does_not_hold_the_process(run):
    code = 'import threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); ' \
        'interrupt()'
    assert run(while_running=code) == (0, ['started', 'worked', 'destroyed'], '')


def test_a_value_that_the_node_refuses_is_one_line(run):
    status, _, log = run(while_starting="raise ValueError('rate is -1: give more')")
    assert status == 1
    assert len(log.splitlines()) == 1 and 'rate is -1: give more' in log


def test_an_error_of_a_running_node_is_shown(run):
    status, output, log = run(while_running="raise ValueError('its own fault')")
    assert (status, output) == (1, ['started', 'destroyed'])
    assert 'Traceback' in log and 'its own fault' in log


def test_memory_of_frames_is_used_again():
    script = """
import resource, sys
from epvlm_ros.ros.executables import keep_freed_memory
if sys.argv[1] == 'keep':
    keep_freed_memory()
for _ in range(100):  # two frames of 2 MB at a time, one of them freed on top
    frames = [bytearray(b'1') * 2_000_000 for _ in range(2)]
    del frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""
    faults = [int(subprocess.run(
        [sys.executable, '-c', script, how], capture_output=True, check=True).stdout)
        for how in ('keep', 'free')]
    if faults[1] < 50_000:
        pytest.skip('this C library keeps freed memory by itself')
    assert faults[0] < faults[1] / 4
