"""Memory that does not suffice, for real: in a process with little, and on a GPU."""

import mmap
from pathlib import Path
import subprocess
import sys

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import OutOfMemory, VlmEngine
from epvlm_ros.vlm.engine.memory_guard import memory_taken, within_memory
import numpy as np
import pytest
from qwen_checkpoints import make_model, needs_gpu, save_original_checkpoint
import torch

SCRIPT = """
import resource, sys
import numpy as np
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import OutOfMemory, VlmEngine

engine = VlmEngine.from_config(VlmConfig(
    model=sys.argv[1], device='cpu', attention='eager', keep_ratio=1.0, max_new_tokens=8,
    num_threads=1))
random = np.random.default_rng(0)
small, large = (random.integers(0, 256, (side, side, 3), np.uint8) for side in (140, 1400))
before = engine.answer(small, '?', None)
pages = int(open('/proc/self/statm').read().split()[0])
for room in (int(number) for number in sys.argv[2:]):
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        engine.answer(large, '?', None)
    except OutOfMemory as error:
        print(error)
    after = engine.answer(small, '?', None)
    assert after.text == before.text and after.flops_reused == 0
    print('lives on')
"""


@pytest.fixture(scope='module', name='folder')
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original_checkpoint(tmp_path_factory.mktemp('model'), make_model('wide'))


@pytest.mark.slow
@pytest.mark.process
def test_a_process_with_little_memory_lives_on(folder: Path) -> None:
    # Not even for the patches of the large image, which are 47 MB; and enough for them, but not
    # for two heads that attend from 10,000 patches to each other, 800 MB.
    rooms = ['30000000', '400000000']
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT, str(folder), *rooms], capture_output=True, text=True,
        timeout=120)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[1::2] == ['lives on'] * 2 and len(lines) == 4
    for line in lines[::2]:
        assert line.startswith('not enough memory on cpu: lower keep_ratio, max_pixels')


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")])
def test_shortages_let_go_of_what_can_be_computed_again(error: Exception) -> None:
    forgotten = []

    def fail() -> None:
        raise error

    with pytest.raises(OutOfMemory, match='lower keep_ratio'):
        within_memory(fail, lambda: forgotten.append(1), 'cpu')
    assert forgotten == [1]


def test_other_errors_go_through() -> None:
    def fail() -> None:
        raise RuntimeError('shapes do not match')

    with pytest.raises(RuntimeError, match='shapes do not match') as error:
        within_memory(fail, lambda: None, 'cpu')
    assert not isinstance(error.value, OutOfMemory)


@needs_gpu
def test_a_gpu_with_little_memory_lives_on(folder: Path) -> None:
    engine = VlmEngine.from_config(VlmConfig(
        model=str(folder), device='cuda', attention='eager', acceleration='eager',
        keep_ratio=1.0, max_new_tokens=8))
    random = np.random.default_rng(0)
    small, large = (random.integers(0, 256, (side, side, 3), np.uint8) for side in (140, 1400))
    before = engine.answer(small, '?', None)
    torch.cuda.empty_cache()  # of what ran earlier in this process
    reserved = torch.cuda.memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    allowed = reserved + 400 * 10 ** 6
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        with pytest.raises(OutOfMemory, match='not enough memory on cuda'):
            engine.answer(large, '?', None)
        assert torch.cuda.memory_reserved() < reserved + 200 * 10 ** 6
        after = engine.answer(small, '?', None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert after.text == before.text and after.flops_reused == 0


def test_memory_that_is_taken_is_counted():
    before = memory_taken('cpu')
    with mmap.mmap(-1, 64_000_000) as taken:  # pages that the process has not had before
        taken[:] = b'1' * len(taken)
        while_taken = memory_taken('cpu')
    assert 60e6 < while_taken - before < 200e6
    assert memory_taken('cpu') < while_taken - 60e6
