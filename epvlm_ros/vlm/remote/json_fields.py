"""Fields of JSON from outside, taken only in the type that they are to have."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from epvlm_ros.vlm.remote.server_error import ServerError

Value = TypeVar('Value')
_MAX_MESSAGE_LENGTH = 300
MAX_SHOWN = 60  # characters of a value that is not as it should be
_NAMES = {dict: 'an object', list: 'a list', str: 'a text', int: 'an integer', float: 'a number'}
_MISSING: Any = object()


def parse_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in a text; a ServerError names ``what`` if there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        shown = text[:MAX_SHOWN].decode(errors='replace') if isinstance(text, bytes) \
            else text[:MAX_SHOWN]
        raise ServerError(
            f'the server sent {shown!r} as {what}, which is no JSON: check what runs at '
            'server') from None
    return _check(found, what, dict)


def take(parent: dict[str, Any], path: str, kind: type[Value], default: Any = _MISSING) -> Value:
    """
    Return a field, by the last name of its ``path``; integers are numbers too.

    ``default`` stands for one that is missing or null; without one a ServerError is raised, as
    for a field of another type.
    """
    found = parent.get(path.rpartition('.')[2])
    if found is None and default is not _MISSING:
        return default
    return _check(found, path, kind)


def describe_error(reply: dict[str, Any]) -> str:
    """Return what a reply says of an error, in any of the forms that servers use."""
    error = reply.get('error')
    message = error.get('message') if isinstance(error, dict) else error
    found = message or reply.get('message') or reply.get('detail') or reply
    return ' '.join(str(found).split())[:_MAX_MESSAGE_LENGTH]


def _check(found: Any, path: str, kind: type[Value]) -> Value:
    if kind is float and type(found) is int:
        found = float(found)
    if type(found) is not kind or found != found:  # NaN is no number
        shown = 'missing' if found is None else repr(found)[:MAX_SHOWN]
        raise ServerError(
            f"the server's {path} is {shown}, not {_NAMES[kind]}: it does not speak OpenAI's "
            'chat completions; check what runs at server')
    return found
