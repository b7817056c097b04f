"""Fixtures that several tests share."""

from pathlib import Path

import pytest
import torch

RECORDINGS = Path(__file__).resolve().parents[1].parent / 'shared' / 'data'


@pytest.fixture(scope='module', autouse=True)
def torch_threads(request: pytest.FixtureRequest) -> None:
    """Give a module its threads, whatever those before it have set: small models want one."""
    torch.set_num_threads(getattr(request.module, 'NUM_TORCH_THREADS', 1))


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of real recordings beside the project, or skip the test."""
    if not RECORDINGS.is_dir():
        pytest.skip(f'no recordings: {RECORDINGS} is absent')
    return RECORDINGS
