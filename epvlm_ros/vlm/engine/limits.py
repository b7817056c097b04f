"""What a query may set for itself in place of the configuration."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypedDict

from epvlm_ros.vlm.config import VlmConfig


class Limits(TypedDict, total=False):
    """
    What a query may set for itself, in the ranges of the parameters; None sets nothing.

    ``deadline_s`` counts from the call. What was begun is finished: an answer may end later by
    the time of one layer, or with CUDA graphs by that of the encoder, of the prefill or of some
    tokens.
    """

    keep_ratio: float | None
    max_new_tokens: int | None
    deadline_s: float | None


_PARAMETERS = {
    'keep_ratio': 'keep_ratio', 'max_new_tokens': 'max_new_tokens', 'deadline_s': 'deadline'}


def override(config: VlmConfig, limits: Limits) -> VlmConfig:
    """Return a configuration with these limits; a ValueError if one is out of its range."""
    given = {_PARAMETERS[name]: value for name, value in limits.items() if value is not None}
    # replace() checks a new value as it checks a parameter
    return replace(config, **given) if given else config  # type: ignore[arg-type]


def check_dynamic(before: VlmConfig, config: VlmConfig) -> None:
    """Raise a ValueError if anything differs but dynamic parameters."""
    for item in fields(config):
        old, new = getattr(before, item.name), getattr(config, item.name)
        if new != old and not item.metadata['dynamic']:
            raise ValueError(
                f'{item.name} cannot change from {old!r} to {new!r} while the model is '
                'loaded: load it again')
