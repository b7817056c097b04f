"""
Questions with inline options: RealWorldQA's published rows, and other common layouts.

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

# A mark: A. A) A: (A) [A] a. **A.** 'Option A:', with or without a space behind it; not 'A.M.'.
_LETTER = (
    r'(?:\*\*|__)?(?:(?:option|choice)[ \t]+)?(?P<open>[(\[（]?)(?P<letter>[a-z])(?:\*\*|__)?'
    r'(?P<close>[.)\]:．）：、])(?:\*\*|__)?(?![a-z]\.)')
_MARK_ON_LINE = re.compile(rf'^[ \t]*(?:[-*•][ \t]+)?{_LETTER}', re.IGNORECASE | re.MULTILINE)
_MARK = re.compile(rf'(?:(?<=[\s?!:;,])|^){_LETTER}', re.IGNORECASE)
_BRACKETS = {'': '.):．）：、', '(': ')', '（': '）', '[': ']'}  # what closes a mark
_IN_A_NAME = re.compile(r'\b(?:(?:Mr|Mrs|Ms|Dr|Prof|St|Sir)\.?|[A-Z]\.)\s*$')  # 'Mr. A. Smith'
_SENTENCE_ENDS = '?!.:;)]？。：*'
_MAX_OPTIONS = 26
_REACH = 12  # characters before a mark in which a title is looked for
_LONGEST_INSTRUCTION = 500
_MAX_SENTENCES = 20  # of an instruction
_TRUE_LETTER = re.compile(r'(?:\*\*)?[(\[]?([A-Za-z])[)\].:]?(?:\*\*)?')
_ABOUT_WRITING = re.compile(
    r'\b(?:letters?|written|writing|say|says|read|reads|symbol|character|initial|spell|grade)\b',
    re.IGNORECASE)

# What an instruction begins with, what it is about, and the cue that asks for the answer.
_COMMAND = (
    r'(?:please\s+\w+|answer|choose|select|pick|respond|reply|give|output|return|write|provide|'
    r'indicate|only)\b')
_SUBJECT = re.compile(
    r'\b(?:please answer|letters?|options?|choices?|answers?|words?|numbers?|phrases?|directly)\b',
    re.IGNORECASE)
_CUE = r'(?:(?:your\s+|the\s+)?(?:final\s+|correct\s+)?answer(?:\s+is)?|response)\s*[:：]\s*$'
_AFTER_OPTIONS = re.compile(
    rf'(?:^[ \t]*(?:{_COMMAND}|{_CUE})|(?<=\s)(?=[A-Z])(?:{_COMMAND}|{_CUE}))',
    re.IGNORECASE | re.MULTILINE)
_AFTER_QUESTION = re.compile(
    r'(?:\s*\bplease answer\b[^\n]*|\n\s*answer (?:with|in|using|by|directly)\b[^\n]*|'
    rf'\s+{_CUE})+\s*$', re.IGNORECASE)


class AskedText(NamedTuple):
    """A question without options and instruction, its options and its instruction."""

    stem: str
    options: tuple[tuple[str, str], ...]
    instruction: str


def split_question(text: str) -> AskedText:
    """
    Split a text into question, options and instruction.

    Options are marked alike by letters from A on, two at least: those that start lines, or else
    the last run of them anywhere, unless it is part of a sentence ('Is Mr. A. Smith here?').
    """
    for found in list(_AFTER_OPTIONS.finditer(text))[-_MAX_SENTENCES:]:
        body, instruction = text[:found.start()], text[found.start():].strip()
        options, start = _find_options(body)
        is_whole = options and (options[-1][1] or not options[0][1])  # else it is an option's text
        starts_line = not body.rpartition('\n')[2].strip()
        if is_whole and _is_instruction(instruction, starts_line, len(options)):
            return AskedText(body[:start].strip(), options, instruction)
    options, start = _find_options(text)
    if options:
        return AskedText(text[:start].strip(), options, '')
    text = text.strip()
    ending = _AFTER_QUESTION.search(text, max(0, len(text) - _LONGEST_INSTRUCTION))
    stem = text[:ending.start()].strip() if ending else ''
    return AskedText(stem, (), text[len(stem):].strip()) if stem else AskedText(text, (), '')


def _is_instruction(text: str, starts_line: bool, num_options: int) -> bool:
    """Tell whether a text after options is an instruction, and holds no further option."""
    following = chr(ord('A') + num_options)
    if following in [mark.group('letter').upper() for mark in _MARK_ON_LINE.finditer(text)]:
        return False
    if re.match(_CUE, text, re.IGNORECASE):
        return True
    is_sentence = starts_line or (text[0].isupper() and len(text.split()) > 2)
    return is_sentence and _SUBJECT.search(text) is not None


def _find_options(body: str) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return the options of a text and where they start; none and 0 where there are none."""
    for pattern in (_MARK_ON_LINE, _MARK):
        marks = [mark for mark in pattern.finditer(body)
                 if mark.group('close') in _BRACKETS[mark.group('open')]]
        if pattern is _MARK:
            marks = [mark for mark in marks if not _IN_A_NAME.search(
                body, max(0, mark.start() - _REACH), mark.start())]
        run = _find_run(marks)
        ends = [mark.start() for mark in run[1:]] + [len(body)]
        texts = [body[mark.end():end].strip().strip('*_').strip()
                 for mark, end in zip(run, ends)]
        if run and (pattern is _MARK_ON_LINE or _are_options(body[:run[0].start()], run, texts)):
            letters = [mark.group('letter').upper() for mark in run]
            return tuple(zip(letters, texts)), run[0].start()
    return (), 0


def _are_options(before: str, run: list[re.Match[str]], texts: list[str]) -> bool:
    """Tell a run of marks from a sentence; the plainest marks need no end of one before them."""
    ended = before.rstrip()
    if not ended or ended[-1] in _SENTENCE_ENDS or '\n' in before[len(ended):]:
        return True
    is_plain = all(
        mark.group('letter').isupper() and mark.group('close') in '.)'
        and mark.string[mark.end():mark.end() + 1].isspace() for mark in run)
    return is_plain and not any(re.search(r'(?:\b(?:or|and)|,)$', text) for text in texts[:-1])


def _find_run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the last marks of one style whose letters follow from A on, two at least."""
    for start in range(len(marks) - 1, -1, -1):
        run: list[re.Match[str]] = []
        for mark in marks[start:]:
            is_next = mark.group('letter').upper() == chr(ord('A') + len(run))
            if is_next and _style(mark) == _style(marks[start]):
                run.append(mark)
        if len(run) > 1 and run[0] is marks[start]:
            return run
    return []


def _style(mark: re.Match[str]) -> tuple[str, str, bool]:
    return mark.group('open'), mark.group('close'), mark.group('letter').isupper()


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


def read_truth(
    answer: str, options: tuple[tuple[str, str], ...], question: str = '',
) -> str:
    """
    Return the letter of the right option, or the answer itself where there are no options.

    ``answer`` is a letter, with or without marks, the text of an option, or both. One that is
    empty or none of the options is a ``ValueError``, and so is a lone letter where no options were
    found, unless the question is about something written.
    """
    text = answer.strip()
    if not text:
        raise ValueError('the answer is empty')
    alone = _TRUE_LETTER.fullmatch(text)
    if not options:
        if alone and alone.group(1).upper() <= 'J' and not _ABOUT_WRITING.search(question):
            raise ValueError(
                f'the answer {text!r} is a letter, but the question has no options: give them on '
                'lines such as A. left, or in a column options')
        return text
    texts = {letter: option.lower() for letter, option in options}
    if alone and alone.group(1).upper() in texts:
        return alone.group(1).upper()
    same = [letter for letter, option in texts.items() if option == text.lower()]
    if len(same) == 1:
        return same[0]
    both = _MARK_ON_LINE.match(text)
    if both and texts.get(both.group('letter').upper()) == text[both.end():].strip().lower():
        return both.group('letter').upper()
    raise ValueError(f'the answer {text!r:.60} is none of the options {", ".join(texts)}')
