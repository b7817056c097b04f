"""
Questions with inline options, as in RealWorldQA's published rows.

Such a question reads 'In which direction ... ?', then each option on a line of its own ('A. left')
or all of them on one, then 'Please answer directly with only the letter ...'.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

LETTER_INSTRUCTION = (
    'Please answer directly with only the letter of the correct option and nothing else.')
WORD_INSTRUCTION = 'Please answer directly with a single word or number.'
_INSTRUCTION = re.compile(r'\s*\bPlease answer\b[^\n]*\s*$', re.IGNORECASE)
_MARK_ON_LINE = re.compile(r'^\s*[(]?([A-Z])[.)](?=\s)', re.MULTILINE)
_MARK = re.compile(r'(?<!\S)[(]?([A-Z])[.)](?=\s)')
_MAX_OPTIONS = 26


class AskedText(NamedTuple):
    """A question without options and instruction, its options and its instruction."""

    stem: str
    options: tuple[tuple[str, str], ...]
    instruction: str


def split_question(text: str) -> AskedText:
    """
    Split a text into question, options and instruction.

    Options are marked by letters from A on, two at least, each followed by a full stop or a
    bracket: those that start lines, or else the last run of them anywhere.
    """
    found = _INSTRUCTION.search(text)
    if found:
        instruction, body = found.group().strip(), text[:found.start()]
        asked = _split_options(body, instruction)
        # 'Please answer: which way? A. left B. right' is a question, not an instruction
        if asked.options or not _split_options(instruction, '').options:
            return asked
    return _split_options(text, '')


def _split_options(body: str, instruction: str) -> AskedText:
    for mark in (_MARK_ON_LINE, _MARK):
        run = _find_run(list(mark.finditer(body)))
        if run:
            ends = [item.start() for item in run[1:]] + [len(body)]
            options = tuple(
                (item.group(1), body[item.end():end].strip()) for item, end in zip(run, ends))
            return AskedText(body[:run[0].start()].strip(), options, instruction)
    return AskedText(body.strip(), (), instruction)


def _find_run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the last marks whose letters follow one another from A on, two at least."""
    for start in range(len(marks) - 1, -1, -1):
        run: list[re.Match[str]] = []
        for mark in marks[start:]:
            if mark.group(1) == chr(ord('A') + len(run)):
                run.append(mark)
        if len(run) > 1 and run[0] is marks[start]:
            return run
    return []


def join_question(stem: str, options: tuple[tuple[str, str], ...], instruction: str) -> str:
    """Put a question together, each option on a line of its own."""
    lines = [stem, *(f'{letter}. {text}' for letter, text in options), instruction]
    return '\n'.join(line for line in lines if line)


def read_options(value: Any) -> tuple[tuple[str, str], ...]:
    """
    Read a column of options.

    ``value`` is a list of texts, which get the letters from A on, or a text for each letter; empty
    texts and NaN (a gap in a table) are no options. Anything else is a ``ValueError``.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, dict):
        pairs = [(str(letter).strip().upper(), text) for letter, text in value.items()
                 if text not in (None, '') and text == text]
    elif isinstance(value, (list, tuple)):
        pairs = [(chr(ord('A') + i), text) for i, text in enumerate(value[:_MAX_OPTIONS])]
    else:
        raise ValueError(f'options are {value!r:.60}: give a list of texts or a text per letter')
    for letter, text in pairs:
        if not re.fullmatch('[A-Z]', letter) or not isinstance(text, (str, int, float)):
            raise ValueError(f'option {letter!r:.20} is {text!r:.60}: give a letter and a text')
    return tuple((letter, as_text(text).strip()) for letter, text in pairs)


def as_text(value: str | int | float) -> str:
    """Return an answer or an option as text: tables turn whole numbers into 3.0, gaps into NaN."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f'{value} stands where an answer or an option should: give a text')
        if value.is_integer():
            return str(int(value))
    return str(value)


def read_truth(answer: str, options: tuple[tuple[str, str], ...]) -> str:
    """
    Return the letter of the right option, or the answer itself where there are no options.

    ``answer`` is a letter, with or without marks, or the text of an option; one that is empty or
    none of the options is a ``ValueError``.
    """
    text = answer.strip()
    if not text:
        raise ValueError('the answer is empty')
    if not options:
        return text
    letters = [letter for letter, _ in options]
    alone = re.fullmatch(r'[(]?([A-Za-z])[).]?', text)
    if alone and alone.group(1).upper() in letters:
        return alone.group(1).upper()
    same = [letter for letter, option in options if option.lower() == text.lower()]
    if len(same) == 1:
        return same[0]
    raise ValueError(f'the answer {text!r:.60} is none of the options {", ".join(letters)}')
