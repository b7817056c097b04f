"""Dependencies point one way: the core and the simulator know nothing of ROS."""

import importlib.util
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECK = """
import sys


class NoRos:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'rclpy', 'epvlm_interfaces', 'event_camera_msgs', 'sensor_msgs',
                                  'std_msgs', 'geometry_msgs', 'tf2_msgs', 'cv_bridge',
                                  'rosbags'}:
            raise ImportError(f'{name} is not to be imported')


sys.meta_path.insert(0, NoRos())
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def modules(package):
    for path in sorted((ROOT / package).rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        yield '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


@pytest.mark.parametrize('package', ['epvlm_ros/core', 'epvlm_ros/eval', 'epvlm_ros/sim'])
def test_a_package_imports_without_ros(package):
    # What writes recordings is the one place where the simulator meets the bags.
    elsewhere = ['epvlm_ros.sim.recording']
    if importlib.util.find_spec('triton') is None:  # comes with torch for GPUs only
        elsewhere.append('epvlm_ros.core.captured.kernels')
    names = [name for name in modules(package) if not name.startswith(tuple(elsewhere))]
    assert len(names) > 4
    result = subprocess.run(
        [sys.executable, '-c', CHECK, *names], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
