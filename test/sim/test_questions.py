"""Questions: answers by hand, no family that guessing from the words would win."""

from collections import Counter, defaultdict
from dataclasses import replace

from epvlm_ros.eval.simulated import SimulatedSet, SimulationConfig
from epvlm_ros.sim.question_maker import make_question
from epvlm_ros.sim.questions import (
    answer_question, FAMILIES, MOTION, MOTION_FAMILIES, Name, NO_SUCH_OBJECT, NOTHING, Question,
    SceneSnapshot, SEVERAL_OBJECTS, snapshot_scene, UNKNOWN)
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import COLOURS, is_unseen, SHAPES, SYMBOLS
from epvlm_ros.sim.wording import vocabulary
import numpy as np
import pytest

CIRCLE, SQUARE, STAR, RING = (SHAPES.index(name) for name in ('circle', 'square', 'star', 'ring'))
RED, BLUE, ORANGE = (COLOURS.index(name) for name in ('red', 'blue', 'orange'))
# A red circle top left, a blue star in the middle of the lower half, an orange square and a red
# square on the right.
SNAPSHOT = SceneSnapshot(
    extent=np.array([1.0, 1.5]), shape=np.array([CIRCLE, STAR, SQUARE, SQUARE]),
    colour=np.array([RED, BLUE, ORANGE, RED]),
    centres=np.array([(0.2, 0.3), (0.75, 0.76), (0.3, 1.2), (0.9, 1.4)]),
    symbol=np.array([SYMBOLS.index('k'), -1, SYMBOLS.index('7'), -1]),
    moves=np.array([True, False, False, True]),
    velocity=np.array([(0.1, -0.4), (0.0, 0.0), (0.0, 0.0), (0.3, 0.3)]))


def make_view(shapes, colours, centres):
    """Return still objects that nothing is written on."""
    return SceneSnapshot(
        np.ones(2), np.array(shapes), np.array(colours), np.array(centres),
        np.full(len(shapes), -1), np.zeros(len(shapes), bool), np.zeros((len(shapes), 2)))


def ask_of(snapshot, about, subject=None, other=None, relation=''):
    return answer_question(Question(about, about, '', subject, other, relation), snapshot)


def ask(about, subject=None, other=None, relation=''):
    return ask_of(SNAPSHOT, about, subject, other, relation)


@pytest.mark.parametrize('about, subject, expected', [
    ('colour', Name(shape=CIRCLE), 'red'),
    ('colour', Name(shape=SQUARE), SEVERAL_OBJECTS),
    ('colour', Name(shape=RING), NO_SUCH_OBJECT),
    ('shape', Name(colour=BLUE), 'star'),
    ('shape', Name(colour=RED), SEVERAL_OBJECTS),
    ('shape', Name(shape=SQUARE, colour=RED), 'square'),
    ('count', Name(), 'four'),
    ('count', Name(shape=SQUARE), 'two'),
    ('count', Name(colour=RED), 'two'),
    ('count', Name(shape=STAR, colour=RED), 'zero'),
    ('existence', Name(shape=STAR), 'yes'),
    ('existence', Name(shape=STAR, colour=RED), 'no'),
    ('place', Name(shape=CIRCLE), 'top left'),
    ('place', Name(colour=ORANGE), 'top right'),
    ('place', Name(shape=SQUARE, colour=RED), 'bottom right'),
    ('place', Name(shape=STAR), None),  # 0.01 from the middle line: left or right?
    ('place', Name(shape=RING), NO_SUCH_OBJECT),
    ('motion', None, MOTION),
    ('unknown', None, UNKNOWN),
    ('description', None, 'four objects'),
    ('symbol', Name(shape=CIRCLE), 'k'),
    ('symbol', Name(shape=STAR), NOTHING),
    ('symbol', Name(colour=ORANGE), '7'),
    ('symbol', Name(shape=SQUARE), SEVERAL_OBJECTS),
    ('moving', None, 'a red circle and a red square'),
    ('moving_count', None, 'two'),
    ('still', None, 'a blue star and an orange square'),
    ('moving_symbol', None, None),  # two objects move
    ('direction', Name(shape=CIRCLE), 'left'),
    ('direction', Name(shape=SQUARE, colour=RED), None),  # aslant
    ('direction', Name(shape=STAR), None)])
def test_answers_by_hand(about, subject, expected):
    assert ask(about, subject) == expected


@pytest.mark.parametrize('relation, expected', [
    ('left', 'yes'), ('right', 'no'), ('above', 'yes'), ('below', 'no')])
def test_relations_by_hand(relation, expected):
    circle, star = Name(shape=CIRCLE), Name(shape=STAR)
    opposite = {'yes': 'no', 'no': 'yes'}[expected]
    assert ask('relation', circle, star, relation) == expected
    assert ask('relation', star, circle, relation) == opposite
    assert ask('relation', star, Name(shape=SQUARE), relation) == SEVERAL_OBJECTS
    assert ask('relation', Name(shape=RING), Name(shape=SQUARE), relation) == NO_SUCH_OBJECT


def test_a_relation_without_a_clear_margin_has_no_answer():
    near = make_view([CIRCLE, STAR], [RED, BLUE], [(0.5, 0.50), (0.2, 0.55)])
    question = Question('relation', 'relation', '', Name(CIRCLE), Name(STAR), 'left')
    assert answer_question(question, near) is None
    below = Question('relation', 'relation', '', Name(CIRCLE), Name(STAR), 'below')
    assert answer_question(below, near) == 'yes'


def test_descriptions_of_few_many_and_close_objects():
    def describe(shapes, colours, columns):
        centres = np.array([(0.5, column) for column in columns])
        snapshot = make_view(shapes, colours, centres)
        return answer_question(Question('description', 'description', ''), snapshot)

    assert describe([RING], [ORANGE], [0.5]) == 'an orange ring'
    assert describe([RING, STAR], [ORANGE, RED], [0.8, 0.2]) == 'a red star and an orange ring'
    assert describe([RING, STAR], [ORANGE, RED], [0.41, 0.4]) is None
    three = describe([RING, STAR, RING], [ORANGE, RED, BLUE], [0.8, 0.2, 0.5])
    assert three == 'a red star, a blue ring and an orange ring'
    assert describe([RING] * 5, [RED] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]) == 'five objects'


def test_what_moves_by_itself_is_asked_about_only_before_a_still_camera():
    moving = replace(SNAPSHOT, camera_moves=True)
    for family in MOTION_FAMILIES:
        question = Question(family, family, '', Name(shape=CIRCLE))
        assert answer_question(question, moving) is None
        assert make_question(family, moving, np.random.default_rng(0)) is None
    one = replace(SNAPSHOT, moves=np.array([True, False, False, False]))
    none = replace(SNAPSHOT, moves=np.zeros(4, bool))
    assert ask_of(one, 'moving_symbol') == 'k'
    assert ask_of(none, 'moving') == NOTHING and ask_of(none, 'moving_count') == 'zero'


def test_something_that_appears_is_in_view_from_then_on():
    scene = sample_scene('test', 3, num_objects=2)
    scene.appears_s[:] = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    assert [len(snapshot_scene(scene, time_s).shape) for time_s in (0.9, 1.1)] == [1, 2]


def make_many(family, num_scenes=600, split='train', num_attempts=1):
    random = np.random.default_rng(0)
    made = (make_question(
        family, snapshot_scene(sample_scene(split, index), 0.5), random, num_attempts)
        for index in range(num_scenes))
    return [item for item in made if item is not None]


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_asks_well_formed_questions_with_its_own_answers(family):
    made = make_many(family, 2000 if family == 'moving_symbol' else 200)
    assert len(made) > 20
    words = set(vocabulary())
    for question, answer in made:
        assert question.family == family
        assert '  ' not in question.text and '{' not in question.text
        assert set(answer.replace(',', ' ,').split()) <= words
        if family != 'unknown':
            assert set(question.text.split()) <= words
            assert ' a orange' not in question.text and ' an red' not in question.text
        fixed = {'absent': NO_SUCH_OBJECT, 'several': SEVERAL_OBJECTS, 'unknown': UNKNOWN,
                 'motion': MOTION}.get(family)
        assert answer == fixed if fixed else answer not in (NO_SUCH_OBJECT, SEVERAL_OBJECTS)


@pytest.mark.slow
@pytest.mark.parametrize('family, most', [
    ('colour', 0.25), ('shape', 0.30), ('relation', 0.56), ('place', 0.35), ('existence', 0.55),
    ('count', 0.45), ('symbol', 0.35), ('moving', 0.25), ('moving_count', 0.45),
    ('direction', 0.35), ('still', 0.25), ('moving_symbol', 0.4)])
def test_no_answer_is_much_more_frequent_than_the_others(family, most):
    num_scenes = 3000 if family == 'moving_symbol' else 600
    answers = Counter(answer for _, answer in make_many(family, num_scenes))
    assert max(answers.values()) / sum(answers.values()) < most


@pytest.mark.slow
def test_no_answer_of_the_benchmark_is_most_of_its_family():
    answers = defaultdict(Counter)
    for case in SimulatedSet(SimulationConfig(num_questions=4000)):
        answers[case.family][case.answer] += 1
    shares = {family: max(counts.values()) / sum(counts.values())
              for family, counts in answers.items() if len(counts) > 1 and counts.total() > 30}
    most = {'symbol': 0.3, 'relation': 0.56, 'existence': 0.55}
    assert len(shares) == 12  # few scenes let one ask what is written on what moves
    for family, share in shares.items():
        assert share < most.get(family, 0.45), family


@pytest.mark.slow
def test_the_words_of_a_relation_do_not_tell_its_answer():
    made = make_many('relation', 2500)
    for relation in ('left', 'right', 'above', 'below'):
        answers = [answer for question, answer in made if question.relation == relation]
        assert len(answers) > 100
        assert 0.36 < answers.count('yes') / len(answers) < 0.64


@pytest.mark.slow
def test_existing_and_missing_objects_are_asked_about_in_the_same_words():
    made = make_many('existence', 2000)
    for named in ('shape', 'colour', 'both'):
        answers = [
            answer for question, answer in made
            if named == ('shape' if question.subject.colour is None else
                         'colour' if question.subject.shape is None else 'both')]
        assert 0.43 < answers.count('yes') / len(answers) < 0.57


@pytest.mark.slow
def test_names_of_what_is_absent_do_not_tell_that_it_is():
    for split, may_be_unseen in (('train', False), ('hard', True)):
        absent = (question.subject for question, answer in make_many('existence', 1500, split)
                  if answer == 'no')
        names = [name for name in absent if None not in (name.shape, name.colour)]
        unseen = [bool(is_unseen(np.array(name.shape), np.array(name.colour))) for name in names]
        assert len(names) > 150 and any(unseen) == may_be_unseen


@pytest.mark.slow
@pytest.mark.parametrize('family', ['symbol', 'existence'])
def test_further_attempts_do_not_shift_the_answers(family):
    once, often = (Counter(answer for _, answer in make_many(family, num_attempts=number))
                   for number in (1, 20))
    frequent = {'symbol': NOTHING, 'existence': 'no'}[family]
    shares = [counts[frequent] / counts.total() for counts in (once, often)]
    assert min(once.total(), often.total()) > 200
    assert abs(shares[0] - shares[1]) < 0.08


@pytest.mark.slow
def test_unknown_questions_hold_strange_words_or_no_order():
    known = set(vocabulary())
    strange = [bool(set(question.text.split()) - known) for question, _ in make_many('unknown')]
    assert 0.75 < np.mean(strange) < 0.95


def test_equal_random_states_make_equal_questions():
    snapshot = snapshot_scene(sample_scene('test', 3), 1.0)
    pairs = [[make_question(family, snapshot, np.random.default_rng(4)) for family in FAMILIES]
             for _ in range(2)]
    assert pairs[0] == pairs[1]


def test_a_view_holds_what_exists():
    scene = sample_scene('test', 3, num_objects=2)
    snapshot = snapshot_scene(scene, 0.3)
    assert (len(snapshot.shape) == len(snapshot.colour) == len(snapshot.centres)
            == scene.num_objects)
    np.testing.assert_array_equal(snapshot.centres, scene.positions(0.3))


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="family is 'poetry': give one of colour"):
        make_question('poetry', SNAPSHOT, np.random.default_rng(0))


@pytest.mark.parametrize('name, singular, plural', [
    (Name(), 'object', 'objects'), (Name(shape=CIRCLE), 'circle', 'circles'),
    (Name(shape=SHAPES.index('cross')), 'cross', 'crosses'),
    (Name(colour=RED), 'red object', 'red objects'),
    (Name(shape=RING, colour=BLUE), 'blue ring', 'blue rings')])
def test_names(name, singular, plural):
    assert name.text() == singular
    assert name.text(plural=True) == plural
