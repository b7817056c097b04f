"""How a node's process ends, whatever it is doing when the signal comes."""

import signal
import subprocess
import sys

import pytest

# Interrupts itself where libraries are: in code that is made from a string.
INTERRUPTED_IN_EXEC = """
from epvlm_ros.ros import executables
def spin(name, args, signals):
    signals.is_loading = {is_loading}
    exec('import os; os.kill(os.getpid(), {number})')
    print('loading went on' if not signals.stop_is_asked else 'asked to stop')
executables._spin = spin
executables.run_node('vlm_node')
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('is_loading, output', [(True, ''), (False, 'asked to stop')])
def test_a_signal_inside_exec_ends_the_process_with_status_zero(number, is_loading, output):
    code = INTERRUPTED_IN_EXEC.format(is_loading=is_loading, number=int(number))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, output, '')
