"""Installs the Python package, its executables and its launch and configuration files."""

from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

package_name = 'epvlm_ros'
# colcon may run a link to this file.
manifest = ElementTree.parse(Path(__file__).resolve().with_name('package.xml'))

setup(
    name=package_name,
    version=manifest.findtext('version'),
    packages=find_packages(include=[package_name, package_name + '.*']),
    package_data={package_name: ['models/*/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + package_name]),
        ('share/' + package_name, ['package.xml']),
        ('share/' + package_name + '/launch', glob('launch/*.launch.py')),
        ('share/' + package_name + '/config', glob('config/*.yaml')),
    ],
    install_requires=['setuptools'],
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
