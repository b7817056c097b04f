"""
Whether an answer is right.

Multiple choice is scored by the letter that an answer names, exactly. Read in this order, after
white space is joined and Markdown's asterisks are taken off:

1. a letter of an option alone, in either case, with or without brackets and a mark behind it:
   'B', 'b.', '(B)', 'B)';
2. a letter that leads or follows a phrase: 'B. a bus', '(b) a bus', 'B: a bus', 'Answer: B',
   'The answer is (B).', 'The correct answer is: B', 'Option B'; set off by its mark or the end,
   so that 'a bus' names no option A;
3. the text of one option, by the rule of free answers.

What fits none of these names no option and is wrong. Free answers are right when they are equal to
the truth after both are put into lower case, marks at the ends of words are dropped and white
space is joined; one that has no words is right only where the truth is the same marks.
"""

from __future__ import annotations

import re
import unicodedata

Options = tuple[tuple[str, str], ...]
_MARKS = '.,;:!?"\'`()[]'
_ALONE = re.compile(r'[(\[]?([A-Za-z])[)\]]?[.):,]?')
_LEADING = re.compile(r'(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])[.):])[.:]?\s+\S.*')
_FOLLOWING = re.compile(
    r'(?:.*\banswer(?:\s+is)?|(?:the\s+)?option)\s*:?\s*(?:[(\[]([A-Za-z])[)\]]|([A-Z]))'
    r'(?:[.):,].*)?', re.IGNORECASE)


def find_letter(answer: str, options: Options) -> str | None:
    """Return the letter of the option that an answer names; None for none, or for several."""
    letters = {letter for letter, _ in options}
    text = ' '.join(unicodedata.normalize('NFKC', answer).replace('*', ' ').split())
    for pattern in (_ALONE, _LEADING, _FOLLOWING):
        found = pattern.fullmatch(text)
        letter = found and next(group for group in found.groups() if group)
        if letter and letter.upper() in letters:
            return letter.upper()
    named = [letter for letter, option in options if _are_same(option, answer)]
    return named[0] if len(named) == 1 else None


def normalise(text: str) -> str:
    """Return a text in lower case, words without marks at their ends, single spaces."""
    words = unicodedata.normalize('NFKC', text).replace('*', ' ').lower().split()
    return ' '.join(word for word in (word.strip(_MARKS) for word in words) if word)


def is_right(answer: str, truth: str, options: Options) -> bool:
    """Tell whether an answer is right; with options ``truth`` is a letter, else a text."""
    if options:
        return find_letter(answer, options) == truth
    return _are_same(answer, truth)


def _are_same(first: str, second: str) -> bool:
    """Compare two texts by their words, or by their marks where one has no words."""
    words = normalise(first), normalise(second)
    if all(words):
        return words[0] == words[1]
    return first.strip() == second.strip() != ''
