"""The rule by which answers are right, case by case."""

from epvlm_ros.eval.scoring import find_letter, is_right, normalise
import pytest

OPTIONS = (('A', 'Left'), ('B', 'a red bus'), ('C', '2.5 m'), ('D', 'Straight'))


@pytest.mark.parametrize('answer, letter', [
    ('A', 'A'), ('b', 'B'), ('B.', 'B'), ('(C)', 'C'), ('(c)', 'C'), ('D)', 'D'), (' a \n', 'A'),
    ('[B]', 'B'), ('**B**', 'B'), ('B:', 'B'),
    ('A. Left', 'A'), ('(b) a red bus', 'B'), ('B) a red bus', 'B'), ('C: 2.5 m', 'C'),
    ('b. a red bus', 'B'),
    ('Answer: A', 'A'), ('answer: (b)', 'B'), ('The answer is C.', 'C'),
    ('The answer is (d)', 'D'), ('the answer is b', 'B'),
    ('The correct answer is: B', 'B'), ('Option D', 'D'), ('the option: D.', 'D'),
    ('The answer is B, the bus.', 'B'),
    ('left', 'A'), ('Left.', 'A'), ('a red bus', 'B'), ('A  RED BUS!', 'B'), ('2.5 m', 'C'),
    ('"Straight"', 'D'),
    ('E', None), ('', None), ('a bus', None), ('A red car', None), ('The answer is a bus', None),
    ('left or straight', None), ('Answer: E', None), ('right', None), ('25 m', None),
    ('A B', None), ('Apple', None), ('The answer is Blue', None)])
def test_the_letter_that_an_answer_names(answer, letter):
    assert find_letter(answer, OPTIONS) == letter


def test_a_text_that_two_options_have_names_neither():
    assert find_letter('left', (('A', 'left'), ('B', 'Left'))) is None


def test_an_answer_without_words_is_no_option_of_marks():
    options = (('A', 'yes'), ('B', 'no'), ('C', '?'))
    assert find_letter('', options) is find_letter('!', options) is None
    assert find_letter(' ? ', options) == 'C'


def test_a_letter_goes_before_a_text_that_is_a_letter():
    # the letter on an object may be what is asked for
    assert find_letter('A', (('A', 'B'), ('B', 'A'))) == 'A'
    assert is_right('B', 'B', (('A', 'B'), ('B', 'A')))
    assert not is_right('B', 'A', (('A', 'B'), ('B', 'A')))


@pytest.mark.parametrize('answer, truth, right', [
    ('Two', 'two', True), ('two.', 'two', True), ('  top  left ', 'top left', True),
    ('a red circle, a ring', 'a red circle and a ring', False),
    ('a red circle, a ring', 'A red circle  a ring.', True),
    ('2', 'two', False), ('yes', 'no', False), ('', 'no', False), ('2.5', '25', False),
    ('', '?', False), ('!', '?', False), ('?', '?', True), ('', '', False)])
def test_free_answers(answer, truth, right):
    assert is_right(answer, truth, ()) == right


def test_normal_form_by_hand():
    assert normalise(' The "Answer", is: (2.5)!  ') == 'the answer is 2.5'
    assert normalise('ﬁve\u00a0cars') == 'five cars'
