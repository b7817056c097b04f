"""Settings of vLLM, there before it is imported, and what all tests compare with."""

import os

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING='0',  # engines in this process: 2 s each instead of 50
    VLLM_CPU_OMP_THREADS_BIND='nobind', OMP_NUM_THREADS='1', VLLM_NO_USAGE_STATS='1',
    VLLM_LOGGING_LEVEL='WARNING', HF_HUB_OFFLINE='1')

from own_engine import OwnEngines  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope='session')
def own(tmp_path_factory):
    """Return the engines of epvlm_ros."""
    engines = OwnEngines(tmp_path_factory.mktemp('checkpoints'))
    yield engines
    engines.close()
