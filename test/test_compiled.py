"""Machine code that is kept on disk is never older than what it was made of."""

import importlib.util
import logging
import os
import subprocess
import sys

from epvlm_ros import compiled as compilation
import numba
import numpy as np
import pytest

pytestmark = pytest.mark.long


@pytest.mark.process
def test_a_change_in_another_file_compiles_the_caller_anew(tmp_path):
    (tmp_path / 'caller.py').write_text(
        'from called import answer\n'
        'from epvlm_ros.compiled import compiled, count_bits\n\n\n'
        '@compiled\n'
        'def ask(number):\n'
        '    return answer() + count_bits(number)\n\n\n'
        'print(ask(0b1011), sum(ask.stats.cache_hits.values()))\n')
    environment = {**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path / 'cache')}
    outputs = []
    for value in (10, 10, 20000):
        source = f'from epvlm_ros.compiled import compiled\n\n\n' \
                 f'@compiled\ndef answer():\n    return {value}\n'
        path = tmp_path / 'called.py'
        if not path.exists() or path.read_text() != source:
            path.write_text(source)
        done = subprocess.run(
            [sys.executable, 'caller.py'], cwd=tmp_path, env={
                **environment, 'PYTHONPATH': os.pathsep.join(filter(None, [
                    str(tmp_path), os.getcwd(), os.environ.get('PYTHONPATH')]))},
            capture_output=True, text=True, timeout=120, check=True)
        outputs.append(done.stdout.split())
    assert outputs == [['13', '0'], ['13', '1'], ['20003', '0']]


def load_module(path):
    """Import a file anew, as a process that starts would."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('ending', ['nbi', 'nbc'])
@pytest.mark.parametrize('share', [0.0, 0.5, 'zeros'])
def test_a_damaged_cache_is_compiled_again_with_one_warning(
        tmp_path, monkeypatch, caplog, ending, share):
    monkeypatch.setattr(numba.config, 'CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(compilation, '_warned', set())
    path = tmp_path / 'answers.py'
    path.write_text(
        'from epvlm_ros.compiled import compiled\n\n\n'
        '@compiled\ndef one(number):\n    return number + 1\n\n\n'
        '@compiled\ndef two(number):\n    return number + 2\n')
    first = load_module(path)
    assert (first.one(3), first.two(3)) == (4, 5)
    files = list((tmp_path / 'cache').rglob(f'*.{ending}'))
    assert len(files) == 2
    for file in files:
        content = file.read_bytes()
        file.write_bytes(
            bytes(len(content)) if share == 'zeros' else content[:int(share * len(content))])
    with caplog.at_level(logging.WARNING):
        damaged = load_module(path)
        assert (damaged.one(3), damaged.two(3)) == (4, 5)
    warning, = caplog.messages
    assert 'is damaged' in warning and 'compiled again' in warning
    repaired = load_module(path)
    assert (repaired.one(3), repaired.two(3)) == (4, 5)
    assert sum(repaired.one.stats.cache_hits.values()) == 1


def test_an_array_is_handed_out_contiguous_and_not_writable_without_a_change_of_it():
    given = np.arange(6).reshape(2, 3).T
    handed_out = compilation.read_only(given)
    assert handed_out.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert handed_out.flags.c_contiguous and not handed_out.flags.writeable
    whole = np.arange(4)
    shown = compilation.read_only(whole)
    assert not shown.flags.writeable and np.shares_memory(shown, whole)
    assert given.flags.writeable and whole.flags.writeable
