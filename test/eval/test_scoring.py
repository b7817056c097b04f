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


# How a reader takes each answer to a question with options A to D.
@pytest.mark.parametrize('answer, letter', [
    ('(A) is wrong, the answer is (B)', 'B'), ('A. No. The answer is B', 'B'),
    ('A) or B)', None), ('A. Left B. a red bus C. 2.5 m D. Straight', None),
    ('(A) Left (B) a red bus', None), ('A. Left\nB. a red bus\nAnswer: B', 'B'),
    ('The correct option is B', 'B'), ('B is correct.', 'B'), (r'\boxed{B}', 'B'),
    (r'$\boxed{\text{B}}$', 'B'), (r'So the answer is $\boxed{C}$.', 'C'), ('B!', 'B'),
    ('B, two', 'B'), ('B - a red bus', 'B'), ('B \u2013 a red bus', 'B'), ('`B`', 'B'),
    ('"B"', 'B'),
    ('(B) is the correct answer.', 'B'), ('Option B is correct.', 'B'),
    ('B is the best choice', 'B'),
    ('The best answer is C', 'C'), ('Correct choice: D', 'D'), ('I would choose B.', 'B'),
    ('I pick option C', 'C'), ('My answer: b', 'B'), ('Final answer: **D**', 'D'),
    ('It is B.', 'B'), ("It's (C)", 'C'), ('The answer must be D', 'D'),
    ('The answer is option B.', 'B'), ('The answer is most likely B', 'B'),
    ('The answer is A, not B', 'A'), ('The answer is not A but B', 'B'), ('not A', None),
    ('A is incorrect', None), ("A isn't correct; B is correct", 'B'), ('Neither A nor B', None),
    ('Neither A nor B, the answer is C', 'C'), ('The answer is A or B', None),
    ('Both A and B', None), ('A and C are correct', None), ('A/B', None), ('All except C', None),
    ('The answer is A. Wait, the answer is B.', 'B'), ('A. a car, not B. a bus', 'A'),
    ('The picture shows a bus (B)', 'B'), ('Option A shows a car, option B a bus', None),
    ('I see a bus', None), ('A bus, I think', None), ('A bus stands there. The answer is D.', 'D'),
    ('The answer is left.', 'A'), ('Answer: a red bus', 'B'),
    ('The correct answer is straight', 'D'),
    ('Because it is a bus, B is right.', 'B'), ('The answer is B because A is too short.', 'B'),
    ('Option C.', 'C'), ('choice (d)', 'D'), ('B) a red bus, since A) is left of it', None),
    ('at 10 A.M.', None), ('Vitamin C', None), ('I do not know', None), ('E is correct', None)])
def test_answers_are_read_as_a_reader_takes_them(answer, letter):
    assert find_letter(answer, OPTIONS) == letter


def test_a_text_with_a_letter_in_it_is_the_option_that_it_is():
    options = (('A', 'Vitamin A'), ('B', 'Vitamin C'), ('C', 'neither'))
    for answer in 'Vitamin C', 'the answer is vitamin C':
        assert find_letter(answer, options) == 'B'


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
