"""What colcon finds in setup.py and package.xml."""

import os
from pathlib import Path
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

pytestmark = pytest.mark.process
ROOT = Path(__file__).resolve().parents[1]
# As colcon_core.task.python calls it: built and installed, or linked (--symlink-install).
BUILD = ['build', '--build-base', 'out', 'install', '--root', 'installed']
LINK = ['develop', '--build-directory', 'out', '--no-deps']


@pytest.fixture
def set_up(tmp_path):
    """Run setup.py by an interpreter that finds setuptools, but no other package."""
    for name in ('setup.py', 'package.xml', 'setup.cfg'):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / 'setuptools.py').write_text(
        'def find_packages(include): return []\n'
        'def setup(**arguments): print("built", arguments["extras_require"])\n')

    def set_up(words, **environment):
        return subprocess.run(
            [sys.executable, '-S', 'setup.py', *words], cwd=tmp_path, text=True,
            capture_output=True, env={'PATH': os.environ['PATH'], **environment})
    return set_up


@pytest.mark.parametrize('words', [BUILD, LINK])
def test_a_build_without_the_interfaces_fails_in_one_line_that_mends_it(set_up, words, tmp_path):
    result = set_up(words)
    assert result.returncode == 1 and 'built' not in result.stdout
    assert len(result.stderr.splitlines()) == 1
    command = 'ln -s epvlm_ros/interfaces/epvlm_interfaces epvlm_interfaces'
    assert command in result.stderr
    # The command is right, from the folder src of a workspace.
    (tmp_path / 'src').mkdir()
    (tmp_path / 'src' / 'epvlm_ros').symlink_to(ROOT)
    subprocess.run(command, shell=True, cwd=tmp_path / 'src', check=True)
    assert (tmp_path / 'src' / 'epvlm_interfaces' / 'package.xml').is_file()


@pytest.mark.parametrize('words', [
    BUILD, LINK, ['egg_info'], ['bdist_wheel'], ['editable_wheel'], ['develop', '--no-deps'],
    [*LINK, '--uninstall']])
def test_other_builds_go_on(set_up, words, tmp_path):
    if words in (BUILD, LINK):
        packages = tmp_path / 'prefix' / 'share' / 'ament_index' / 'resource_index' / 'packages'
        packages.mkdir(parents=True)
        (packages / 'epvlm_interfaces').touch()
    result = set_up(words, AMENT_PREFIX_PATH=f'/nowhere{os.pathsep}{tmp_path / "prefix"}')
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "built {'test': ['pytest'], 'convert': ['aedat', 'h5py', 'hdf5plugin']}\n")


def test_interfaces_on_the_path_of_python_are_found(set_up, tmp_path):
    (tmp_path / 'epvlm_interfaces.py').touch()
    assert set_up(BUILD).returncode == 0


def test_every_imported_ros_package_is_a_dependency():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    declared = {item.text for item in package if item.tag.endswith('depend')}
    imported = set()
    for path in [*(ROOT / 'epvlm_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]:
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (['from'], ['import']) and len(words) > 1:
                imported.add(words[1].split('.')[0])
    ros = {name for name in imported if name.endswith(('_msgs', '_interfaces')) or name in (
        'rclpy', 'launch', 'launch_ros', 'cv_bridge')}
    assert {'rclpy', 'epvlm_interfaces', 'launch_ros'} <= ros
    assert ros <= declared
