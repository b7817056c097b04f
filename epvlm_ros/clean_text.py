"""Text from outside, made fit for a line of a log or an answer."""

from __future__ import annotations

MAX_LENGTH = 200


def clean_text(text: str, max_length: int = MAX_LENGTH) -> str:
    """
    Return a text as one line of printable characters.

    Parameters
    ----------
    text : str
        Anything. What does not print (line ends, escape sequences, marks of direction, lone
        surrogates) is replaced by its backslash escape.
    max_length : int
        Characters of ``text`` that are kept; a longer one ends with how many there were.

    """
    kept = text[:max_length]
    if not kept.isprintable():
        kept = ''.join(
            character if character.isprintable()
            else character.encode('unicode_escape').decode() for character in kept)
    return kept if len(text) <= max_length else f'{kept}... ({len(text)} characters)'
