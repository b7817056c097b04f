"""How many questions the best guess by their words gets right, without any image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
import re

from epvlm_ros.eval.groups import groups_of, ONE_FRAME_GROUP
from epvlm_ros.eval.question_set import Case
from epvlm_ros.sim.scene import COLOURS, SHAPES
from epvlm_ros.sim.wording import PREFIXES

_SHAPE = '(?:' + '|'.join(f'{shape}(?:e?s)?' for shape in SHAPES) + ')'
_COLOUR = '(?:' + '|'.join(COLOURS) + ')'
_LEFT_OPEN = [(re.compile(pattern), kind) for pattern, kind in (
    (rf'^(?:{"|".join(PREFIXES)}) ', ''), (rf'\b{_SHAPE}\b', 'SHAPE'),
    (rf'\b{_COLOUR}\b', 'COLOUR'), (r'\bthing', 'object'), (r'\bthe picture\b', 'the image'))]


def wording(question: str) -> str:
    """Return a question without polite words, names of shapes and colours left open."""
    for pattern, kind in _LEFT_OPEN:
        question = pattern.sub(kind, question)
    return question


def guess_blindly(cases: Iterable[Case]) -> list[tuple[Case, bool]]:
    """
    Tell which questions the commonest answer to their wording gets right.

    The commonest answer is that of the questions about the other half of the images, every second
    one, so that no question votes for itself; a wording that is not among them is wrong.
    """
    all_cases = list(cases)
    halves = {image: number % 2 for number, image in enumerate(
        dict.fromkeys(case.image for case in all_cases))}
    answers: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for case in all_cases:
        answers[halves[case.image], wording(case.question)][case.answer] += 1
    guesses = {key: counts.most_common(1)[0][0] for key, counts in answers.items()}
    return [(case, guesses.get((1 - halves[case.image], wording(case.question))) == case.answer)
            for case in all_cases]


def format_blind_guess(cases: Iterable[Case]) -> str:
    """Return what the guess gets right, in per cent, in Markdown."""
    rows: dict[str, list[bool]] = defaultdict(list)
    for case, is_right in guess_blindly(cases):
        rows['all'].append(is_right)
        if ONE_FRAME_GROUP in groups_of(case.family, case.group):
            rows[ONE_FRAME_GROUP].append(is_right)
        rows[case.family].append(is_right)
    lines = ['| questions | number | blind guess right, % |', '| --- | --- | --- |']
    lines += [f'| {name} | {len(found)} | {100.0 * sum(found) / len(found):.1f} |'
              for name, found in rows.items()]
    return '\n'.join(lines)
