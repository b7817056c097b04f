"""Fixtures that several tests share."""

from pathlib import Path

import pytest

RECORDINGS = Path(__file__).resolve().parents[1].parent / 'shared' / 'data'


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of real recordings beside the project, or skip the test."""
    if not RECORDINGS.is_dir():
        pytest.skip(f'no recordings: {RECORDINGS} is absent')
    return RECORDINGS
