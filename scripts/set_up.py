#!/usr/bin/env python3
"""
Set up a virtual environment in which the nodes, the command line and the tests run.

Without a sourced ROS 2 distribution, rclpy, the messages and the interface generators come as
wheels and the interfaces are generated into the environment. With one (``ROS_DISTRO`` is set),
rclpy comes from the distribution and only what it lacks is installed. Every step is skipped when
nothing that it depends on has changed. Needs the standard library only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
import time

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
CONSTRAINTS = ROOT / 'constraints.txt'
SUPPORTED = ((3, 10), (3, 13))


def main() -> None:
    """Run the steps that are due."""
    arguments = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    arguments.add_argument('--test', action='store_true', help='install what the tests need too')
    arguments.add_argument('--clean', action='store_true', help='remove what was made here')
    options = arguments.parse_args()
    if options.clean:
        clean()
        return
    distribution = os.environ.get('ROS_DISTRO', '')
    check_python(distribution)
    requirements = ['requirements.txt']
    if not distribution:
        check_compiler()
        requirements.append('requirements-ros.txt')
    if options.test:
        requirements.append('requirements-test.txt')
    python = make_environment(distribution)
    for name in requirements:
        step(f'install {name}', [ROOT / name, CONSTRAINTS], partial(install, python, name))
    interfaces = sorted((ROOT / 'interfaces').rglob('*.*'))
    if distribution:
        sources = sorted((ROOT / 'epvlm_ros').rglob('*.py'))
        step('build with colcon', [*interfaces, *sources], lambda: build_in_workspace(python))
    else:
        step('generate the interfaces', interfaces, lambda: build_in_environment(python))
    step('install epvlm_ros', [ROOT / 'setup.py', ROOT / 'package.xml'],
         lambda: pip(python, '--no-deps', '--no-build-isolation', '--editable', str(ROOT)))


def check_python(distribution: str) -> None:
    """Stop with one line when this interpreter cannot run the project."""
    lowest, highest = SUPPORTED
    if not lowest <= sys.version_info[:2] <= highest:
        stop(f'Python {sys.version_info[0]}.{sys.version_info[1]} is not supported: install '
             f'Python {lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]} and run '
             'make with PYTHON=python3.12 (or the like)')
    if not distribution and (sys.platform != 'linux' or os.uname().machine != 'x86_64'):
        stop(f'no ROS 2 wheels for {sys.platform} on {os.uname().machine}: install a ROS 2 '
             'distribution and source its setup.bash first')
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        stop('this Python has no venv module: install it (Debian, Ubuntu: '
             'apt install python3-venv)')


def check_compiler() -> None:
    """Stop with one line when the interfaces cannot be compiled."""
    if not (shutil.which('c++') or shutil.which('g++') or os.environ.get('CXX')):
        stop('no C++ compiler: install one (Debian, Ubuntu: apt install g++)')
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.is_file():
        stop(f'no Python headers ({header}): install them (Debian, Ubuntu: '
             'apt install python3-dev)')


def make_environment(distribution: str) -> Path:
    """
    Create the environment, afresh if it was made for another interpreter or ROS.

    Only a folder that this script made is cleared: the stamp in it says so.
    """
    python = VENV / 'bin' / 'python'
    made_for = f'{sys.version_info[:3]} {sysconfig.get_path("include")} {distribution} {ROOT}'
    stamp = VENV / 'made_for'
    if python.exists() and stamp.is_file() and stamp.read_text() == made_for:
        return python
    say('create .venv')
    clear_environment()
    VENV.mkdir()
    stamp.write_text('unfinished')  # so that an interrupted start is cleared the next time
    # A distribution's own Python packages (rclpy's needs) are seen from inside.
    system_packages = ['--system-site-packages'] if distribution else []
    run([sys.executable, '-m', 'venv', *system_packages, str(VENV)])
    stamp.write_text(made_for)
    return python


def clear_environment() -> None:
    """Remove the environment, or stop with one line where something else is in its place."""
    if VENV.is_symlink() or VENV.exists() and not (VENV / 'made_for').is_file():
        stop(f'{VENV} was not made by make, or is a link: it is left as it is; move it away and '
             'run make again')
    shutil.rmtree(VENV, ignore_errors=True)


def clean() -> None:
    """Remove everything that was made here."""
    for name in ('build', 'install', 'log'):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    clear_environment()


def install(python: Path, requirements: str) -> None:
    """Install one list of requirements; a robot with a distribution may have its own torch."""
    exact = [] if os.environ.get('ROS_DISTRO') else ['--constraint', str(CONSTRAINTS)]
    pip(python, '--requirement', str(ROOT / requirements), *exact)
    if not os.environ.get('ROS_DISTRO'):
        # torch pulls a newer setuptools than colcon can work with.
        pip(python, 'setuptools<80', 'empy<4')


def pip(python: Path, *arguments: str) -> None:
    """Run pip quietly; it prints its errors."""
    run([str(python), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check',
         *arguments])


def build_in_environment(python: Path) -> None:
    """Generate the interface packages into the environment itself."""
    mend_cmake_targets(python)
    prefix = str(VENV)
    environment = dict(
        os.environ, AMENT_PREFIX_PATH=prefix, CMAKE_PREFIX_PATH=prefix,
        PATH=f'{VENV / "bin"}{os.pathsep}{os.environ["PATH"]}')
    run([str(VENV / 'bin' / 'colcon'), '--log-base', str(ROOT / 'build' / 'log'), 'build',
         '--base-paths', str(ROOT / 'interfaces'), '--merge-install', '--install-base', prefix,
         '--build-base', str(ROOT / 'build' / 'interfaces'), '--event-handlers',
         'console_direct-', 'console_stderr-', 'console_cohesion-', '--cmake-args', '-GNinja',
         f'-DPython3_EXECUTABLE={python}', '-DBUILD_TESTING=OFF', '-Wno-dev'],
        env=environment, quiet=True)


def mend_cmake_targets(python: Path) -> None:
    """Replace the include folders of the machine that built the wheels by those of this one."""
    query = 'import numpy, sysconfig; print(sysconfig.get_path("include")); ' \
            'print(numpy.get_include())'
    python_include, numpy_include = subprocess.run(
        [str(python), '-c', query], check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # folders may have spaces in their names
    for path in (VENV / 'share').rglob('*.cmake'):
        text = path.read_text(errors='surrogateescape')
        if '/opt/python/' in text:
            path.write_text(_replace_folders(text, python_include, numpy_include),
                            errors='surrogateescape')


def _replace_folders(text: str, python_include: str, numpy_include: str) -> str:
    import re

    text = re.sub(r'/opt/python/[^;"\s]*/numpy/_?core/include', numpy_include, text)
    return re.sub(r'/opt/python/[^;"\s/]*/include/python[0-9.]+', python_include, text)


def build_in_workspace(python: Path) -> None:
    """Build interfaces and package with the distribution's colcon into install/."""
    if subprocess.run([str(python), '-c', 'import colcon_core'], capture_output=True).returncode:
        stop('no colcon: install it (Debian, Ubuntu: apt install '
             'python3-colcon-common-extensions)')
    base_paths = [str(ROOT / 'interfaces' / 'epvlm_interfaces')]
    # A second definition would hide what the distribution has.
    for name in ('event_camera_msgs', 'tf2_msgs'):
        if subprocess.run([str(python), '-c', f'import {name}'], capture_output=True).returncode:
            base_paths.append(str(ROOT / 'interfaces' / name))
    # Run by the environment's interpreter, colcon makes executables that start with it: `ros2 run`
    # then finds torch.
    run([str(python), '-m', 'colcon', '--log-base', str(ROOT / 'build' / 'log'), 'build',
         '--base-paths', str(ROOT), *base_paths, '--build-base', str(ROOT / 'build'),
         '--install-base', str(ROOT / 'install'), '--cmake-args',
         f'-DPython3_EXECUTABLE={python}', '-DBUILD_TESTING=OFF'])


def step(name: str, inputs: list[Path], action: Callable[[], None]) -> None:
    """Run ``action`` unless it ran before with the same contents of ``inputs``."""
    digest = hashlib.sha256()
    for path in [Path(__file__), *inputs]:
        if path.is_file():
            digest.update(path.read_bytes())
    stamp = VENV / 'stamps' / name.replace(' ', '_')
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    say(name)
    start = time.monotonic()
    action()
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(digest.hexdigest())
    say(f'{name}: {time.monotonic() - start:.0f} s')


def run(command: list[str], env: dict[str, str] | None = None, quiet: bool = False) -> None:
    """Run a command; when it fails show what it printed and stop."""
    result = subprocess.run(command, env=env, text=True, capture_output=quiet)
    if result.returncode:
        if quiet:
            sys.stderr.write(result.stdout + result.stderr)
        stop(f'this command failed: {" ".join(map(str, command))}')


def say(text: str) -> None:
    """Print one line of progress."""
    print(f'[set up] {text}', flush=True)


def stop(text: str) -> None:
    """End with one line that names the remedy."""
    sys.exit(f'[set up] {text}')


if __name__ == '__main__':
    main()
