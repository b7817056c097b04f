"""Versions of transformers outside of the range are told before anything fails on them."""

import importlib
import importlib.metadata
from pathlib import Path
import re

from epvlm_ros.vlm import library_version
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('installed', ['5.17.0', '5.17.1', '5.24.0', '5.24.0.dev0'])
def test_versions_in_the_range_pass(installed: str) -> None:
    library_version.check_version(installed)


@pytest.mark.parametrize('installed', ['4.45.2', '4.57.1', '5.16.9', '5.25.0', '6.0.0'])
def test_other_versions_are_named_with_the_remedy(installed: str) -> None:
    with pytest.raises(ValueError) as error:
        library_version.check_version(installed)
    assert str(error.value) == (
        f'transformers {installed} is installed, the model needs transformers>=5.17,<5.25: run '
        'python -m pip install "transformers>=5.17,<5.25"')


def test_the_range_is_that_of_the_requirements() -> None:
    requirements = (ROOT / 'requirements.txt').read_text(encoding='utf-8')
    wanted = f'transformers>={library_version.LOWEST},<{library_version.BEYOND}'
    assert re.search(f'^{re.escape(wanted)}$', requirements, re.MULTILINE)


def test_the_check_comes_before_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: '4.45.2')
    with pytest.raises(ImportError, match='transformers 4.45.2 is installed'):
        importlib.reload(library_version)
    # the rooms that need the library import the check first
    lines = (ROOT / 'epvlm_ros' / 'vlm' / 'sparse_qwen' / '__init__.py').read_text(
        encoding='utf-8').splitlines()
    imports = [line for line in lines if line.startswith(('import ', 'from '))]
    assert imports[0].startswith('import epvlm_ros.vlm.library_version')
