"""Installs the Python package, its executables and its launch and configuration files."""

from glob import glob
from importlib.util import find_spec
import os
from pathlib import Path
import sys
from xml.etree import ElementTree

from setuptools import find_packages, setup

package_name = 'epvlm_ros'
INTERFACES = 'epvlm_interfaces'


def check_interfaces():
    """Stop a build by colcon, which puts what a package depends on into the environment first."""
    words = set(sys.argv[1:])
    by_colcon = {'build', 'install'} <= words or {'develop', '--build-directory'} <= words
    if not by_colcon or '--uninstall' in words or find_spec(INTERFACES) is not None:
        return
    index = Path('share/ament_index/resource_index/packages') / INTERFACES
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    if not any((Path(prefix) / index).exists() for prefix in prefixes if prefix):
        sys.exit(
            f'{package_name}: {INTERFACES} is not in the workspace, because colcon does not look '
            f'below a package. In src: ln -s {package_name}/interfaces/{INTERFACES} {INTERFACES} '
            '(and event_camera_msgs likewise, where the distribution lacks it), or colcon build '
            f'--base-paths src/{package_name} src/{package_name}/interfaces')


check_interfaces()
# colcon may run a link to this file.
manifest = ElementTree.parse(Path(__file__).resolve().with_name('package.xml'))

setup(
    name=package_name,
    version=manifest.findtext('version'),
    packages=find_packages(include=[package_name, package_name + '.*']),
    package_data={package_name: ['models/*/*', 'ui/static/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + package_name]),
        ('share/' + package_name, ['package.xml']),
        ('share/' + package_name + '/launch', glob('launch/*.launch.py')),
        ('share/' + package_name + '/config', glob('config/*')),
    ],
    install_requires=['setuptools'],
    extras_require={
        'test': ['pytest'],  # by this, colcon test takes pytest
        'convert': ['aedat', 'h5py', 'hdf5plugin'],
    },
    zip_safe=False,
    maintainer='epvlm_ros maintainers',
    maintainer_email='maintainers@epvlm-ros.org',
    description='Event-guided sparse vision-language answers for robots with an event camera.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'epvlm = epvlm_ros.cli:main',
            'event_sync_node = epvlm_ros.ros.executables:event_sync_node',
            'vlm_node = epvlm_ros.ros.executables:vlm_node',
            'bag_player = epvlm_ros.ros.executables:bag_player',
        ],
    },
)
