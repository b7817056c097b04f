"""The environment is set up wherever the checkout lies."""

import importlib.util
from pathlib import Path
import sys
import sysconfig

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
