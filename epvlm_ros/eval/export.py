"""Writes simulated questions with the columns of RealWorldQA, as JSON lines or parquet."""

from __future__ import annotations

import base64
from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

import cv2
from epvlm_ros.eval.multiple_choice import join_question, LETTER_INSTRUCTION, WORD_INSTRUCTION
from epvlm_ros.eval.question_set import Case, QuestionSet
from epvlm_ros.sim.questions import DIRECTIONS, NUMBERS
from epvlm_ros.sim.scene import COLOURS, SHAPES
import numpy as np

# A symbol has none: a letter that is an answer looks like the letter of an option.
_CHOICES = {
    'colour': COLOURS, 'shape': SHAPES, 'count': NUMBERS, 'relation': ('yes', 'no'),
    'existence': ('yes', 'no'), 'moving_count': NUMBERS, 'direction': DIRECTIONS,
    'place': ('top left', 'top right', 'bottom left', 'bottom right')}
_NUM_OPTIONS = 4


def export_questions(questions: QuestionSet, path: Path) -> int:
    """
    Write simulated questions as RealWorldQA is published and return the number of rows.

    The columns are image, ``{'bytes': png, 'path': name}``, base64 in JSON lines; question;
    answer; and ``family``. Questions with few possible answers have up to four options inline and
    a letter as their answer, the others a text. An existing file is replaced. ``ValueError`` if
    ``path`` does not end in .jsonl or .parquet, or pyarrow is missing for parquet.
    """
    if path.suffix == '.jsonl':
        return _write_json_lines(questions, path)
    if path.suffix == '.parquet':
        return _write_parquet(questions, path)
    raise ValueError(f'{path} is neither .jsonl nor .parquet: give one of these')


def _write_json_lines(questions: QuestionSet, path: Path) -> int:
    num_rows = 0
    with path.open('w', encoding='utf-8') as file:
        for num_rows, row in enumerate(_rows(questions), 1):
            data = base64.b64encode(row['image']['bytes']).decode()
            file.write(json.dumps({**row, 'image': {**row['image'], 'bytes': data}}) + '\n')
    return num_rows


def _write_parquet(questions: QuestionSet, path: Path) -> int:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(
            f'{path} is to be parquet, which needs pyarrow: pip install pyarrow, or write '
            '.jsonl') from None
    rows = list(_rows(questions))
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return len(rows)


def _rows(questions: QuestionSet) -> Iterator[dict[str, Any]]:
    name, png = '', b''
    for case in questions:
        if case.image != name:
            observation = questions.observe(case)
            assert observation is not None
            name, png = case.image, cv2.imencode('.png', observation.rgb[:, :, ::-1])[1].tobytes()
        question, answer = _put_into_words(case)
        yield {'image': {'bytes': png, 'path': f'{name}.png'}, 'question': question,
               'answer': answer, 'family': case.family}


def _put_into_words(case: Case) -> tuple[str, str]:
    choices = _CHOICES.get(case.family, ())
    if case.answer not in choices:
        return join_question(case.question, (), WORD_INSTRUCTION), case.answer
    random = np.random.default_rng([24, case.number])
    others = random.permutation([choice for choice in choices if choice != case.answer])
    texts = random.permutation([case.answer, *others[:_NUM_OPTIONS - 1]]).tolist()
    options = tuple((chr(ord('A') + i), text) for i, text in enumerate(texts))
    letter = next(letter for letter, text in options if text == case.answer)
    return join_question(case.question, options, LETTER_INSTRUCTION), letter
