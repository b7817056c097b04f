"""The versions of transformers that the model half works with; importing this checks them."""

from __future__ import annotations

from importlib.metadata import version

LOWEST, BEYOND = '5.17', '5.25'  # as in requirements.txt; insides of the library are used


class UnsupportedVersion(ImportError, ValueError):
    """A library in a version that does not fit; the text is one line with the remedy."""


def check_version(installed: str) -> None:
    """Raise UnsupportedVersion unless this version of transformers is in the range."""
    lowest, found, beyond = (
        tuple(int(part) for part in text.split('.')[:2]) for text in (LOWEST, installed, BEYOND))
    if not lowest <= found < beyond:
        wanted = f'transformers>={LOWEST},<{BEYOND}'
        raise UnsupportedVersion(
            f'transformers {installed} is installed, the model needs {wanted}: run python -m pip '
            f'install "{wanted}"')


check_version(version('transformers'))
