"""Machine code that is kept on disk is never older than what it was made of."""

import os
import subprocess
import sys

import pytest


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
