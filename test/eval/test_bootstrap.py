"""Accuracies, their intervals and the tables made of them."""

import math

from epvlm_ros.eval.bootstrap import PairedBootstrap
from epvlm_ros.eval.groups import GROUPS, groups_of, STILL_GROUP
from epvlm_ros.eval.question_set import Problem
from epvlm_ros.eval.report import format_overview, format_report
from epvlm_ros.eval.summary import is_significant, summarise
import numpy as np
import pytest

pytestmark = pytest.mark.long


def slow_bootstrap(images, values, num_resamples):
    """Draw images with all their questions, one resample after another."""
    random = np.random.default_rng(0)
    members = [np.flatnonzero(images == image) for image in range(images.max() + 1)]
    means = []
    for _ in range(num_resamples):
        drawn = random.integers(len(members), size=len(members))
        means.append(np.mean(np.concatenate([values[members[image]] for image in drawn])))
    return np.percentile(means, [2.5, 97.5])


@pytest.mark.parametrize('num_right, num_questions', [(2, 3), (3, 5), (1, 7), (6, 7)])
def test_an_interval_of_one_image_holds_the_value(num_right, num_questions):
    right = np.arange(num_questions) < num_right
    estimate = PairedBootstrap(np.zeros(num_questions, np.int64)).accuracy(right)
    assert estimate.low <= estimate.value <= estimate.high


def test_intervals_are_those_of_a_slow_bootstrap():
    random = np.random.default_rng(1)
    images = np.sort(random.integers(60, size=300))
    images = np.unique(images, return_inverse=True)[1]
    # answers about one image hang together
    right = random.random(300) < np.where(images % 3 == 0, 0.4, 0.9)
    other = right ^ (random.random(300) < 0.15)
    bootstrap = PairedBootstrap(images)
    found = bootstrap.accuracy(right)
    assert found.value == pytest.approx(right.mean())
    np.testing.assert_allclose(
        [found.low, found.high], slow_bootstrap(images, right, 4000), atol=0.01)
    apart = bootstrap.difference(right, other)
    paired = right.astype(float) - other
    assert apart.value == pytest.approx(paired.mean())
    np.testing.assert_allclose(
        [apart.low, apart.high], slow_bootstrap(images, paired, 4000), atol=0.01)
    # two unpaired intervals would be far wider
    assert apart.high - apart.low < found.high - found.low


def test_what_is_the_same_differs_by_nothing():
    right = np.array([True, False, True, True])
    bootstrap = PairedBootstrap(np.array([0, 0, 1, 2]), num_resamples=700)
    difference = bootstrap.difference(right, right)
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    retention = bootstrap.retention(right, right)
    assert (retention.value, retention.low, retention.high) == (1.0, 1.0, 1.0)
    half = bootstrap.retention(np.array([True, False, False, False]), right, right)
    assert half.value == pytest.approx(1 / 3)


def test_nothing_to_estimate_from_is_no_number():
    bootstrap = PairedBootstrap(np.array([0, 1]))
    none = bootstrap.accuracy(np.array([True, True]), np.array([False, False]))
    assert math.isnan(none.value) and math.isnan(none.low)
    assert math.isnan(bootstrap.retention(*np.zeros((2, 2), bool)).value)
    with pytest.raises(ValueError, match='no answers'):
        PairedBootstrap(np.array([], np.int64))


def make_record(number, setting, right, **others):
    policy, _, budget = setting.partition(', ')
    return {'number': number, 'image': str(number // 2), 'family': 'count' if number else 'place',
            'group': '', 'unread': False, 'setting': setting, 'policy': policy, 'budget': budget,
            'right': right, 'answer': 'two',
            'tokens': 100, 'tokens_kept': 100 if policy == 'dense' else 50, 'flops_dense': 1000,
            'flops_used': 1000 if policy == 'dense' else 400, 'fallback': '', **others}


def test_a_summary_by_hand():
    right = {'dense': [1, 1, 1, 0], 'random, keep 0.5': [0, 1, 0, 0],
             'events, keep 0.5': [1, 1, 0, 0]}
    records = [make_record(number, setting, bool(flags[number]))
               for number in range(4) for setting, flags in right.items()]
    records[2]['fallback'], records[5]['unread'] = 'uniform: static scene', True
    times_ms = {'events, keep 0.5': [10.0, 30.0, 20.0, 40.0]}
    summary = summarise(records, [Problem(7, 'the line is no JSON')], {'a': 1}, times_ms)
    assert (summary['questions'], summary['images']) == (4, 2)
    assert summary['questions_by_family'] == {'place': 1, 'count': 3}
    events = summary['settings']['events, keep 0.5']
    assert events['accuracy']['value'] == 0.5
    assert events['retention']['value'] == pytest.approx(2 / 3)
    assert events['difference_to_dense']['value'] == -0.25
    assert events['difference_to_random']['value'] == 0.25
    assert events['flops_saved'] == pytest.approx(0.6)
    assert (events['tokens_kept'], events['median_ttft_ms'], events['fallbacks']) == (
        50, 25, {'uniform: static scene': 1})
    assert events['by_family']['count']['accuracy']['value'] == pytest.approx(1 / 3)
    assert summary['settings']['random, keep 0.5']['difference_to_random'] is None
    # image 0 or 1 only, or both: accuracies 1, 0 and 0.5 with chances 1/4, 1/4 and 1/2
    assert (events['accuracy']['low'], events['accuracy']['high']) == (0.0, 1.0)
    assert events['difference_to_frame_difference'] is None  # was not run
    assert (summary['timed_images'], summary['settings']['dense']['median_ttft_ms']) == (4, None)
    overview, report = format_overview(summary), format_report(summary)
    assert '| events, keep 0.5 | 50.0 [0.0, 100.0]  | 66.7 [0.0, 100.0]    | 60.0   ' in overview
    assert '| 50 of 100  | 25   ' in overview and overview in report
    assert '-25.0 [' in report and '+25.0 [' in report
    assert '1 rows could not be asked:\n  row 7: the line is no JSON' in report
    assert 'none of the options, and are wrong: events, keep 0.5: 1\n' in overview
    assert '- events, keep 0.5: 1 answers by uniform: static scene' in report


def test_differences_to_controls_and_their_significance():
    # 40 images of two questions: events are right on all, frame difference on every second one,
    # random patches on the same but for two questions
    half = [number % 2 == 0 for number in range(80)]
    right = {
        'dense': [True] * 80, 'events, keep 0.5': [True] * 80, 'frame_difference, keep 0.5': half,
        'random, keep 0.5': half[:76] + [False, True, False, True], 'events, keep 0.3': half}
    records = [make_record(number, setting, flags[number], family='colour')
               for number in range(80) for setting, flags in right.items()]
    settings = summarise(records, [], {})['settings']
    found = settings['events, keep 0.5']
    for name in ('random', 'frame_difference'):
        assert found[f'difference_to_{name}'] == {'value': 0.5, 'low': 0.5, 'high': 0.5}
        assert is_significant(found[f'difference_to_{name}'])
    control = settings['frame_difference, keep 0.5']
    assert control['difference_to_frame_difference'] is None
    assert not is_significant(control['difference_to_random'])
    assert control['difference_to_random']['value'] == 0.0
    # no control was run at this budget
    assert settings['events, keep 0.3']['difference_to_random'] is None
    assert not is_significant(None)
    report = format_report(summarise(records, [], {}))
    assert '+50.0* [+50.0, +50.0]' in report and '| +0.0 [+0.0, +0.0]' in report


def test_groups_and_families_are_reported_apart():
    families = ('colour', 'moving', 'unknown', 'colour', 'rivers', 'colour')
    records = [
        make_record(number, setting, number < 4 or setting == 'dense', family=family,
                    group=STILL_GROUP if number == 0 else '')
        for number, family in enumerate(families) for setting in ('dense', 'events, keep 0.5')]
    summary = summarise(records, [], {})
    assert summary['questions_by_group'] == {
        'answerable from one frame': 3, GROUPS[1]: 1, 'answerable by no picture': 1,
        STILL_GROUP: 1}
    found = summary['settings']['events, keep 0.5']['by_group']
    assert found['answerable from one frame']['accuracy']['value'] == pytest.approx(2 / 3)
    assert found['answerable from one frame']['difference_to_dense']['value'] == pytest.approx(
        -1 / 3)
    assert groups_of('rivers', '') == () and groups_of('rivers', STILL_GROUP) == (STILL_GROUP,)
    report = format_report(summary)
    assert '### Answerable from one frame (3 questions)' in report
    assert '### Still camera and objects (1 questions)' in report
    lines = [line.split('|')[1:5] for line in report.splitlines() if line.startswith('| colour')]
    assert [cell.strip() for cell in lines[0]] == ['colour', '3', '100.0', '66.7']


def test_what_is_said_to_be_unknowable_of_what_one_frame_can_answer():
    answers = ('It is too dark to see.', 'i do not know', 'red', 'i can not tell from one image',
               'it is too bright to see', 'it is dark')
    families = ('colour', 'colour', 'colour', 'unknown', 'shape', 'shape')
    records = [
        make_record(number, setting, setting == 'dense' and number in (0, 2, 3), family=family,
                    answer=answer if setting == 'dense' else 'blue')
        for number, (answer, family) in enumerate(zip(answers, families))
        for setting in ('dense', 'events, keep 0.5')]
    summary = summarise(records, [], {})
    # 3 of 5, one of them rightly; the question that no picture answers is left out
    found = summary['settings']['dense']['said_unknowable']
    assert found['share']['value'] == pytest.approx(3 / 5)
    assert found['wrongly']['value'] == pytest.approx(2 / 5)
    # images of two questions, of which 2, 0 of 1 and 1 are said so: from none to all
    assert (found['share']['low'], found['share']['high']) == (0.0, 1.0)
    assert summary['settings']['events, keep 0.5']['said_unknowable']['share']['high'] == 0.0
    report = format_report(summary)
    assert 'Of the 5 questions answerable from one frame, in per cent' in report
    assert '| dense            | 60.0 [0.0, 100.0]' in report and '| 40.0 [0.0, ' in report
    assert '| events, keep 0.5 | 0.0 [0.0, 0.0] ' in report
    rivers = summarise([{**record, 'family': 'rivers'} for record in records], [], {})
    assert rivers['settings']['dense']['said_unknowable'] is None
    assert 'unknowable' not in format_report(rivers)
