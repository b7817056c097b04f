"""The best guess by the words of questions, by hand."""

from epvlm_ros.eval.blind_guess import format_blind_guess, guess_blindly, wording
from epvlm_ros.eval.question_set import Case
import pytest


@pytest.mark.parametrize('question, expected', [
    ('what colour is the red cross?', 'what colour is the COLOUR SHAPE?'),
    ('please tell me how many black boxes are there?', 'how many COLOUR boxes are there?'),
    ('how many crosses are in the picture?', 'how many SHAPE are in the image?'),
    ('what is the thing?', 'what is the object?'),
    ('is there anything pink?', 'is there anything COLOUR?')])
def test_names_are_left_open(question, expected):
    assert wording(question) == expected


def cases(*rows):
    return [Case(number, image, question, answer, family)
            for number, (image, question, answer, family) in enumerate(rows, 1)]


def test_the_commonest_answer_of_the_other_half_of_the_images():
    asked = cases(
        ('a', 'is there a star?', 'yes', 'existence'), ('a', 'where is it?', 'top', 'place'),
        ('b', 'is there a moon?', 'yes', 'existence'), ('b', 'who?', 'me', 'place'),
        ('c', 'is there a bar?', 'yes', 'existence'),
        ('d', 'is there a ring?', 'no', 'existence'), ('d', 'where is it?', 'top', 'place'),
        ('f', 'is there a ring?', 'no', 'existence'))
    # a, c and f vote for b and d: yes twice, no once; top. b and d vote for the others: yes before
    # no, which is as common; top; and nobody else asks who.
    right = [is_right for _, is_right in guess_blindly(asked)]
    assert right == [True, True, True, False, True, False, True, False]
    assert '| existence | 5 | 60.0 |' in format_blind_guess(asked)


def test_no_question_votes_for_itself():
    alone = cases(('a', 'where?', 'here', 'place'), ('b', 'who?', 'me', 'place'))
    assert [is_right for _, is_right in guess_blindly(alone)] == [False, False]
