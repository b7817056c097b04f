"""Question files: what is read of them, and what is reported instead."""

import base64
import json
import math
import struct
import zlib

import cv2
from epvlm_ros.eval.multiple_choice import (
    join_question, LETTER_INSTRUCTION, read_options, read_truth, split_question, WORD_INSTRUCTION)
from epvlm_ros.eval.question_files import FileSet
from epvlm_ros.eval.run import group_by_image
import numpy as np
import pytest

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
PNG = cv2.imencode('.png', PICTURE[:, :, ::-1])[1].tobytes()
CHOICE = ('In which direction is the front wheel of the car facing?\n\nA. Left\nB. Straight\n'
          'C. Right\n' + LETTER_INSTRUCTION)


@pytest.mark.parametrize('text, stem, options, instruction', [
    (CHOICE, 'In which direction is the front wheel of the car facing?',
     (('A', 'Left'), ('B', 'Straight'), ('C', 'Right')), LETTER_INSTRUCTION),
    ('Which one?\n(A) a bus\n(B) the A. B. C. shop', 'Which one?',
     (('A', 'a bus'), ('B', 'the A. B. C. shop')), ''),
    ('Is A. Jones up? A. yes B. no', 'Is A. Jones up?', (('A', 'yes'), ('B', 'no')), ''),
    ('Which? A. up B. down\nC. neither', 'Which?', (('A', 'up'), ('B', 'down'), ('C', 'neither')),
     ''),
    ('How many cars?\n' + WORD_INSTRUCTION, 'How many cars?', (), WORD_INSTRUCTION),
    ('What does plan A. say?', 'What does plan A. say?', (), ''),
    ('Is B. Smith or A. Jones here?', 'Is B. Smith or A. Jones here?', (), ''),
    ('Who is A. Jones?\nA) he\nB) she', 'Who is A. Jones?', (('A', 'he'), ('B', 'she')), ''),
    ('Please answer this: which way? A. left B. right', 'Please answer this: which way?',
     (('A', 'left'), ('B', 'right')), ''),
    ('Which way? A. left B. right Please answer with A. or B. alone', 'Which way?',
     (('A', 'left'), ('B', 'right')), 'Please answer with A. or B. alone')])
def test_inline_options(text, stem, options, instruction):
    assert split_question(text) == (stem, options, instruction)


LEFT_OR_RIGHT = (('A', 'left'), ('B', 'the right side'), ('C', 'up'))


@pytest.mark.parametrize('marks', [
    'A. left|B. the right side|C. up', 'A.left|B.the right side|C.up',
    '(A) left|(B) the right side|(C) up', '(A)left|(B)the right side|(C)up',
    'A) left|B) the right side|C) up', 'A)left|B)the right side|C)up',
    'A: left|B: the right side|C: up', 'A:left|B:the right side|C:up',
    '[A] left|[B] the right side|[C] up', '[A]left|[B]the right side|[C]up',
    '**A.** left|**B.** the right side|**C.** up', '**A**. left|**B**. the right side|**C**. up',
    '**A. left**|**B. the right side**|**C. up**',
    'a. left|b. the right side|c. up', 'a) left|b) the right side|c) up',
    '(a) left|(b) the right side|(c) up', 'a: left|b: the right side|c: up',
    'Option A: left|Option B: the right side|Option C: up',
    '- A. left|- B. the right side|- C. up'])
@pytest.mark.parametrize('instruction', [
    '', "Answer with the option's letter from the given choices directly.", 'Answer:',
    LETTER_INSTRUCTION, 'Please select the correct answer from the options above.\nAnswer:'])
def test_layouts_of_options_and_instructions(marks, instruction):
    for between in ('\n', ' '):
        if between == ' ' and marks.startswith('-'):
            continue  # a list has lines
        text = between.join(filter(None, ['Which way?', *marks.split('|'), instruction]))
        assert split_question(text) == ('Which way?', LEFT_OR_RIGHT, instruction), text


@pytest.mark.parametrize('text', [
    'Is Mr. A. Smith or Mr. B. Jones here?', 'Was it A. Smith, or B. Jones?',
    'What did Dr. A. Lee say to Dr. B. Wu?', 'Which is larger, A: 3 or B: 4?',
    'Team A: two, team B: three. Who won?', 'What happens at 10 A.M. and at 11 a.m.?',
    'Who is J. A. Smith?', 'Is a) here?', 'Who wrote A.I.?'])
def test_sentences_with_letters_have_no_options(text):
    assert split_question(text) == (text, (), '')


def test_names_within_options_are_no_options():
    for between in '\n', ' ':
        text = between.join(['Who is it?', 'A. Mr. A. Smith', 'B. Mr. B. Jones'])
        assert split_question(text).options == (('A', 'Mr. A. Smith'), ('B', 'Mr. B. Jones'))


@pytest.mark.parametrize('last', [
    'Write a letter', 'Please answer the phone', 'Only two words', 'The right answer'])
def test_an_option_that_looks_like_an_instruction_stays(last):
    for between in '\n', ' ':
        asked = split_question(between.join(['What now?', 'A. Wait', f'B. {last}']))
        assert asked == ('What now?', (('A', 'Wait'), ('B', last)), '')


def test_a_question_that_asks_like_an_instruction_stays():
    for text in ('Look at the sign.\nState the number on it.', 'Choose the larger number.',
                 'Please answer directly'):
        assert split_question(text) == (text, (), '')
    assert split_question('How many?\nAnswer with a single number.\nAnswer:') == (
        'How many?', (), 'Answer with a single number.\nAnswer:')


def test_a_question_put_together_comes_apart_again():
    options = (('A', 'red'), ('B', 'dark blue'))
    text = join_question('what colour?', options, LETTER_INSTRUCTION)
    assert split_question(text) == ('what colour?', options, LETTER_INSTRUCTION)


def test_columns_of_options():
    expected = (('A', 'yes'), ('B', '2'))
    assert read_options(['yes', 2]) == read_options({'a': 'yes', 'B': 2, 'C': None}) == expected
    assert read_options({'A': 'yes', 'B': 2.0, 'C': math.nan}) == expected
    assert read_options(None) == read_options('') == ()
    for wrong in ('yes, no', 3, [['a']], [1.5, math.nan], {'first': 'yes'}):
        with pytest.raises(ValueError, match='give a'):
            read_options(wrong)


@pytest.mark.parametrize('answer, letter', [('A', 'A'), ('b', 'B'), ('(B)', 'B'), ('B.', 'B'),
                                            ('Left', 'A'), ('straight ', 'B')])
def test_the_true_letter(answer, letter):
    assert read_truth(answer, (('A', 'left'), ('B', 'Straight'))) == letter


@pytest.mark.parametrize('answer', ['[B]', 'B:', '**B**', 'b)', 'B. straight', '(B) Straight'])
def test_the_true_letter_in_other_layouts(answer):
    assert read_truth(answer, (('A', 'left'), ('B', 'Straight'))) == 'B'


def test_a_letter_without_options_is_refused_unless_letters_are_asked_for():
    for answer in ('B', '(b)', 'C.', 'a'):
        with pytest.raises(ValueError, match='but the question has no options: give them on'):
            read_truth(answer, (), 'which way?')
        assert read_truth(answer, (), 'which letter is on the sign?') == answer
    assert read_truth('x', (), 'what is it?') == 'x'  # no option's letter
    assert read_truth('2', (), 'how many?') == '2'


@pytest.mark.parametrize('answer', ['C', '', 'right', 'AB'])
def test_an_answer_that_is_no_option_is_refused(answer):
    with pytest.raises(ValueError, match='none of the options A, B|is empty'):
        read_truth(answer, (('A', 'left'), ('B', 'Straight')))


def write_lines(path, rows):
    path.write_text('\n'.join(
        row if isinstance(row, str) else json.dumps(row) for row in rows) + '\n')
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'car.png').write_bytes(PNG)
    (tmp_path / 'broken.png').write_bytes(PNG[:40])
    return tmp_path


def test_every_bad_row_is_reported_and_the_others_are_read(folder):
    good = {'image': 'car.png', 'question': CHOICE, 'answer': 'B'}
    encoded = base64.b64encode(PNG).decode()
    path = write_lines(folder / 'questions.jsonl', [
        good,
        '{"image": "car.png", "question"',                         # row 2
        '["a", "list"]',                                           # row 3
        {'question': 'where?', 'answer': 'here'},                  # row 4
        {**good, 'answer': 'D'},                                   # row 5
        {**good, 'image': 'lost.png'},                             # row 6
        '',
        {**good, 'image': 'broken.png'},                           # row 7, empty lines apart
        {**good, 'image': {'bytes': 'no base64!', 'path': None}},  # row 8
        {**good, 'question': ' '},                                 # row 9
        {**good, 'answer': ['A']},                                 # row 10
        {**good, 'options': 'A or B'},                             # row 11
        {'image': {'bytes': encoded, 'path': 'x'}, 'question': 'how many?', 'answer': 2,
         'family': 'count'}])                                      # row 12
    questions = FileSet(path)
    assert len(questions) == 12
    seen = [(case, questions.observe(case)) for case in questions]
    assert [case.number for case, observation in seen if observation is not None] == [1, 12]
    (first, observation), (last, _) = seen[0], seen[-1]
    np.testing.assert_array_equal(observation.rgb, PICTURE)
    assert (first.question, first.answer) == (CHOICE, 'B') and len(first.options) == 3
    assert (last.question, last.answer, last.family) == ('how many?', '2', 'count')
    reasons = {problem.row: problem.reason for problem in questions.problems}
    words = {2: 'no JSON', 3: 'give an object', 4: 'has no image', 5: "'D' is none of",
             6: 'lost.png cannot be read', 7: 'broken.png is no picture', 8: 'base64',
             9: 'the question is', 10: 'the answer is', 11: 'options are'}
    assert set(reasons) == set(words) and len(questions.problems) == len(words)
    for row, word in words.items():
        assert word in reasons[row]
    assert len(list(questions)) == 5  # a second time: problems do not pile up
    assert {problem.row for problem in questions.problems} == {2, 3, 4, 5, 9, 10, 11}


def make_huge_png_header(size_px):
    size = struct.pack('>II', size_px, size_px)
    chunk = b'IHDR' + size + bytes([8, 2, 0, 0, 0])
    header = struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk))
    return PNG[:8] + header + PNG[33:]


def test_bad_bytes_and_gaps_of_a_table_are_reported_too(folder):
    good = {'image': 'car.png', 'question': 'how many?', 'answer': 3.0}
    huge = base64.b64encode(make_huge_png_header(40_000)).decode()
    questions = FileSet(write_lines(folder / 'questions.jsonl', [
        good, {**good, 'image': {'bytes': [137, 80]}}, {**good, 'image': {'bytes': huge}},
        {**good, 'answer': math.nan}]))
    seen = [(case, questions.observe(case)) for case in questions]
    assert [(case.number, case.answer) for case, found in seen if found is not None] == [(1, '3')]
    assert {problem.row: problem.reason.split(':')[0] for problem in questions.problems} == {
        2: "the image's bytes are [137, 80]",
        3: 'the image in bytes is no picture that can be decoded',
        4: 'nan stands where an answer or an option should'}


def test_an_image_may_be_base64_text(folder):
    encoded = base64.b64encode(PNG).decode()
    good = {'question': 'how many?', 'answer': 3}
    wrapped = '\n'.join(encoded[start:start + 76] for start in range(0, len(encoded), 76))
    questions = FileSet(write_lines(folder / 'questions.jsonl', [
        {**good, 'image': encoded}, {**good, 'image': 'data:image/png;base64,' + encoded},
        {**good, 'image': wrapped}, {**good, 'image': encoded[:3000] + '!' + encoded[3000:]},
        {**good, 'image': encoded[:4000]}, {**good, 'image': 'data:image/png;base64,?'},
        {**good, 'image': {'bytes': None, 'path': encoded}}, {**good, 'image': 'a\0b.png'}]))
    assert questions.describe() == questions.describe()
    found = {case.number: questions.observe(case) for case in questions}
    for number in (1, 2, 3, 7):
        np.testing.assert_array_equal(found[number].rgb, PICTURE)
    reasons = {problem.row: problem.reason for problem in questions.problems}
    assert sorted(reasons) == [4, 5, 6, 8]
    assert 'cannot be read: File name too long' in reasons[4] and len(reasons[4]) < 200
    assert 'no picture' in reasons[5] and 'base64' in reasons[6]
    assert 'cannot be read: embedded null byte' in reasons[8]


def test_a_picture_that_changed_makes_another_set(folder):
    path = write_lines(folder / 'questions.jsonl', [
        {'image': 'car.png', 'question': 'how many?', 'answer': 3},
        {'image': 'lost.png', 'question': 'how many?', 'answer': 3}])
    before = FileSet(path).describe()
    assert FileSet(path).describe() == before
    (folder / 'car.png').write_bytes(PNG[:-1])
    assert FileSet(path).describe() != before


def test_parquet_with_the_columns_of_realworldqa(tmp_path):
    pyarrow = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    rows = [{'image': {'bytes': PNG, 'path': '0.png'}, 'question': CHOICE, 'answer': 'C'},
            {'image': {'bytes': b'', 'path': None}, 'question': CHOICE, 'answer': 'C'},
            {'image': {'bytes': PNG, 'path': '0.png'}, 'question': CHOICE, 'answer': None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / 'test.parquet')
    questions = FileSet(tmp_path / 'test.parquet')
    found = [(case, questions.observe(case)) for case in questions]
    np.testing.assert_array_equal(found[0][1].rgb, PICTURE)
    assert found[0][0].answer == 'C' and found[1][1] is None and len(found) == 2
    assert [problem.row for problem in questions.problems] == [2, 3]
    (tmp_path / 'no.parquet').write_bytes(b'PAR1 no')
    with pytest.raises(ValueError, match='cannot be read as parquet'):
        FileSet(tmp_path / 'no.parquet')


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / 'a.parquet').write_bytes(b'')
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow.parquet', None)
    with pytest.raises(ValueError, match='pip install pyarrow, or give the same'):
        FileSet(tmp_path / 'a.parquet')


def test_a_column_of_options_is_asked_about(folder):
    row = {'image': 'car.png', 'question': 'what is it?', 'answer': 'a car',
           'options': ['a bus', 'a car']}
    path = write_lines(folder / 'a.jsonl', [row])
    asked, = FileSet(path)
    assert asked.question == f'what is it?\nA. a bus\nB. a car\n{LETTER_INSTRUCTION}'
    assert asked.answer == 'B'
    alone, = FileSet(path, 'question')
    assert (alone.question, alone.options) == ('what is it?', asked.options)


def test_images_that_alternate_are_found(folder):
    (folder / 'grey.png').write_bytes(
        cv2.imencode('.png', np.full((40, 50, 3), 90, np.uint8))[1].tobytes())
    names = ['car.png', 'grey.png', 'car.png', 'grey.png', 'grey.png', 'car.png']
    questions = FileSet(write_lines(folder / 'a.jsonl', [
        {'image': name, 'question': 'what?', 'answer': 'x'} for name in names]))
    groups = group_by_image(questions)  # has read on to the next image when it yields one
    found = [(len(group), questions.observe(group[0]).rgb) for group in groups]
    assert [number for number, _ in found] == [1, 1, 1, 2, 1]
    for _, rgb in found[::2]:
        np.testing.assert_array_equal(rgb, PICTURE)
    assert (found[1][1] == 90).all() and (found[3][1] == 90).all()


def test_files_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(ValueError, match='there is no file'):
        FileSet(tmp_path / 'a.jsonl')
    (tmp_path / 'a.csv').write_text('image,question')
    with pytest.raises(ValueError, match='neither .jsonl nor .parquet'):
        FileSet(tmp_path / 'a.csv')


def test_files_of_a_folder_are_read_as_one(folder):
    rows = [{'image': 'car.png', 'question': f'what is {number}?', 'answer': 'x'}
            for number in range(3)]
    (folder / 'set').mkdir()
    with pytest.raises(ValueError, match='there is no .jsonl'):
        FileSet(folder / 'set')
    write_lines(folder / 'set' / 'test-1.jsonl', [{**rows[2], 'image': 'lost.png'}])
    write_lines(folder / 'set' / 'test-0.jsonl', rows[:2])
    questions = FileSet(folder / 'set')
    assert len(questions) == 3
    assert [(case.number, case.question) for case in questions] == [
        (1, 'what is 0?'), (2, 'what is 1?'), (3, 'what is 2?')]


def test_a_description_follows_the_content(folder):
    path = write_lines(folder / 'a.jsonl', [{'image': 'car.png', 'question': '?', 'answer': '1'}])
    first = FileSet(path).describe()
    assert FileSet(path, limit=1).describe() == first  # a limit only ends the set
    write_lines(path, [{'image': 'car.png', 'question': '?', 'answer': '2'}])
    assert FileSet(path).describe() != first
