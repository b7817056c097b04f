"""Which operations a model gets where fused kernels cannot be had."""

import json
import sys
from types import ModuleType, SimpleNamespace

from epvlm_ros.vlm.cuda_graphs.best_operations import find_operations
from epvlm_ros.vlm.cuda_graphs.operations import Operations
import pytest

ON_A_GPU = SimpleNamespace(like=SimpleNamespace(is_cuda=True))


def read_cut_off_json(weights):
    json.loads('{"hash": "ab')


def load_cut_off_library(weights):
    raise OSError('file too short')


def run_wrong_kernel(weights):
    raise RuntimeError('kernels do not compute what plain torch does here')


@pytest.mark.parametrize(('self_checked', 'words'), [
    (read_cut_off_json, ['JSONDecodeError', 'remove the cache of Triton']),
    (load_cut_off_library, ['file too short', 'remove the cache of Triton']),
    (run_wrong_kernel, ['do not compute']),
])
def test_kernels_that_fail_are_replaced_by_plain_torch_with_one_warning(
        monkeypatch, caplog, self_checked, words):
    kernels = ModuleType('epvlm_ros.vlm.cuda_graphs.kernels')
    kernels.self_checked = self_checked
    monkeypatch.setitem(sys.modules, kernels.__name__, kernels)
    assert type(find_operations(ON_A_GPU)) is Operations
    warning, = caplog.messages
    assert all(word in warning for word in ['plain torch instead', *words])
