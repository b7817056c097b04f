"""The demo as a process: what it leaves behind."""

import os
import signal
import subprocess
import sys

import pytest
from ros_graph import DOMAIN_ID, wait_until

pytestmark = [pytest.mark.process, pytest.mark.slow]


def is_alive(group):
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_stopped_demo_ends_its_nodes(tmp_path):
    log = tmp_path / 'vlm_node.log'
    demo = subprocess.Popen(
        [sys.executable, '-m', 'epvlm_ros.demo', '--output', str(tmp_path)],
        env={**os.environ, 'ROS_DOMAIN_ID': str(DOMAIN_ID)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: demo.poll() is not None or log.exists() and log.read_text(), 90,
                   'the first line of a node')
        assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)  # to the demo alone
        demo.wait(60)
        assert not is_alive(demo.pid)
    finally:
        if is_alive(demo.pid):
            os.killpg(demo.pid, signal.SIGKILL)
        demo.communicate()
