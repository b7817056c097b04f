"""Whole evaluations over streams: run, resumed, summed up and reported."""

import argparse
from dataclasses import dataclass, field
import json

from epvlm_ros.eval.answer_file import AnswerFile
from epvlm_ros.eval.command import add_eval_options, eval_command
from epvlm_ros.eval.streams.command import make_job
from epvlm_ros.eval.streams.report import format_streams
from epvlm_ros.eval.streams.run import run_streams, StreamJob
from epvlm_ros.eval.streams.summary import CHANGED, MOVING, POOLED, summarise
from epvlm_ros.vlm.config import VlmConfig
import pytest


def make_stream(condition, index, number, rights, updates=(4, 8), moving=()):
    """Return a stream of a question after each update; ``rights`` of each policy."""
    num_frames = max(updates) + 1
    num_later = num_frames - 1
    spent = {name: {
        'flops': [100, *([10] * num_later)], 'num_tokens': [192, *([48] * num_later)],
        'num_outdated': [0, *([3] * num_later)], 'num_admitted': [0] * num_frames,
        'is_alone': [int(frame in moving) for frame in range(num_frames)]} for name in rights}
    head = {'number': number, 'condition': condition, 'stream': index, 'tokens': 192,
            'flops_dense': 200, 'changed': [0.04] * num_later, 'spent': spent}
    return [head, *({
        'update': update, 'family': 'count', 'question': 'how many?', 'expected': 'two',
        'has_changed': place == 1, 'camera_moves': update in moving,
        'answers': {name: 'two' if right[place] else 'one' for name, right in rights.items()},
        'right': {name: bool(right[place]) for name, right in rights.items()}}
        for place, update in enumerate(updates))]


@dataclass(frozen=True)
class FakeJob(StreamJob):
    """A job whose runner only notes what it is asked for."""

    asked: list = field(default_factory=list)

    def make_runner(self, num_threads=0):
        return self

    def run(self, condition, index, number):
        self.asked.append((condition, index))
        return make_stream(condition, index, number, {'dense': (1, 1)})


def make_fake(num_streams):
    return FakeJob(VlmConfig(), ('dense',), ('change_5', 'drift'), num_streams, first_scene=7)


def test_a_resumed_run_does_the_rest(tmp_path):
    path, description = tmp_path / 'answers.jsonl', {'what': 1}
    job = make_fake(1)
    first = run_streams(job, AnswerFile(path, description), iter)
    assert job.asked == [('change_5', 7), ('drift', 7)]
    path.write_text(path.read_text()[:-20])  # as a run that was stopped leaves it
    more = make_fake(2)
    found = run_streams(more, AnswerFile(path, description), iter)
    assert more.asked == [('drift', 7), ('change_5', 8), ('drift', 8)]
    assert found[:2] == first
    assert [records[0]['number'] for records in found] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match='answers of another run'):
        AnswerFile(path, {'what': 2})


def test_no_processes_are_refused(tmp_path):
    with pytest.raises(ValueError, match='--processes is 0'):
        run_streams(make_fake(1), AnswerFile(tmp_path / 'a', {}), iter, 0)


def test_a_summary_by_hand():
    # right: dense 4 of 4, memory 3 of 4, stateless 2 of 4; the second of each stream has changed
    rights = [{'dense': (1, 1), 'memory_events': (1, 1), 'stateless': (1, 0)},
              {'dense': (1, 1), 'memory_events': (1, 0), 'stateless': (1, 0)}]
    summary = summarise([make_stream('change_5', index, index + 1, right)
                         for index, right in enumerate(rights)], {})
    found = summary['conditions']['change_5']
    assert (found['streams'], found['questions'], found['updates']) == (2, 4, 8)
    assert found['questions_by_group'] == {CHANGED: 2}
    assert found['changed_share'] == pytest.approx(0.04)
    memory = found['policies']['memory_events']
    assert memory['accuracy']['value'] == 0.75
    assert (memory['accuracy']['low'], memory['accuracy']['high']) == (0.5, 1.0)
    assert memory['difference_to_dense']['value'] == -0.25
    assert memory['difference_to_stateless']['value'] == 0.25
    assert 'difference_to_memory_pixels' not in memory
    assert memory['by_group'][CHANGED]['accuracy']['value'] == 0.5
    # 100 of 200 once and 10 eight times; 48 of 192 tokens
    assert memory['flops_share'] == pytest.approx((0.5 + 8 * 0.05) / 9)
    assert memory['flops_share_after_first'] == pytest.approx(0.05)
    assert memory['tokens_share_after_first'] == 0.25
    assert memory['flops_by_frame'][:2] == [0.5, 0.05]
    assert memory['outdated_tokens'] == 3.0
    assert memory['outdated_by_frame'] == [0.0] + 8 * [3.0]
    assert memory['accuracy_by_update'][4]['value'] == 1.0
    assert memory['accuracy_by_update'][8]['value'] == 0.5
    assert memory['drift'] is None


def test_frames_before_a_moving_camera_are_told_apart():
    stream = make_stream('bursts', 0, 1, {'dense': (1, 0)}, moving=(8,))
    dense = summarise([stream], {})['conditions']['bursts']
    assert dense['questions_by_group'][MOVING] == 1
    assert dense['policies']['dense']['by_group'][MOVING]['accuracy']['value'] == 0.0
    assert dense['policies']['dense']['frames_alone'] == pytest.approx(1 / 9)


def test_a_long_stream_is_compared_with_itself():
    streams = [make_stream('drift', index, index, {'dense': (1, right)}, updates=(20, 300))
               for index, right in enumerate((1, 0))]
    drift = summarise(streams, {})['conditions']['drift']['policies']['dense']['drift']
    assert drift == {'value': -0.5, 'low': -1.0, 'high': 0.0}


def test_streams_of_one_scene_are_drawn_together():
    streams = [make_stream(condition, 5, number, {'dense': rights}) for number, (condition, rights)
               in enumerate([('change_5', (1, 1)), ('change_20', (1, 0))])]
    pooled = summarise(streams, {})['conditions'][POOLED]
    assert (pooled['streams'], pooled['scenes']) == (2, 1)
    assert pooled['policies']['dense']['accuracy'] == {'value': 0.75, 'low': 0.75, 'high': 0.75}


def test_a_report_says_what_there_is():
    text = format_streams(summarise([make_stream(
        'bursts', 0, 1, {'dense': (1, 1), 'memory_pixels': (1, 0)}, moving=(8,))], {}))
    assert '2 questions about 1 streams of 8 updates, 1 whose answer is another than at first' \
        in text
    assert '4.0% of the tokens change an update' in text
    row = next(line for line in text.splitlines() if line.startswith('| memory pixels'))
    cells = row.split('|')
    assert [cell.strip() for cell in cells[2:6]] == [
        '50.0 [50.0, 50.0]', '50.0 [50.0, 50.0]', '0.0 [0.0, 0.0]', '-50.0* [-50.0, -50.0]']
    assert '10.0% (5.0%, x 1.25)' in cells[8]  # (100 + 8 * 10) of 9 * 200


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_eval_options(parser)
    return parser.parse_args([
        'simulated-streams', '--device', 'cpu', '--num-threads', '1', '--no-plot',
        *map(str, arguments)])


def evaluate(*arguments):
    eval_command(parse(*arguments))


def test_a_camera_that_always_moves_is_compared_if_asked_for():
    def conditions(*arguments):
        return make_job(parse(*arguments), VlmConfig()).conditions

    assert conditions('--conditions', 'moving_camera') == ('moving_camera',)
    assert 'bursts' in conditions() and 'moving_camera' not in conditions()
    summary = summarise([make_stream(
        'moving_camera', 0, 1, {'dense': (1, 1)}, moving=(4, 8))], {})
    assert summary['conditions']['moving_camera']['questions_by_group'] == {
        CHANGED: 1, MOVING: 2}
    assert 'camera moves, 2 questions' in format_streams(summary)


@pytest.mark.parametrize('option, text', [
    (('--policies', 'best'), '--policies best: give some of'),
    (('--policies', 'dense:8'), '--policies dense:8: give some of'),
    (('--policies', 'memory_events:x'), 'memory_events:x: give a number after the colon'),
    (('--conditions', 'rain'), '--conditions rain: give some of'),
    (('--split', 'other'), '--split other: give some of'),
    (('--streams', 0), '--streams is 0: give at least 1'),
    (('--updates', -1), '--updates is -1: give at least 0')])
def test_what_cannot_be_is_refused(tmp_path, option, text):
    with pytest.raises(ValueError, match=text):
        evaluate('--output', tmp_path, *option)


@pytest.mark.slow
def test_a_run_alone_and_in_processes(tmp_path, capsys):
    options = ('--conditions', 'change_20', 'bursts', '--streams', 1, '--updates', 4,
               '--policies', 'memory_events', 'memory_pixels', 'first_frame', '--first-scene', 3)
    evaluate(*options, '--output', tmp_path / 'alone')
    assert 'memory events' in capsys.readouterr().out
    evaluate(*options, '--output', tmp_path / 'two', '--processes', 2)
    alone, two = (sorted((tmp_path / name / 'answers.jsonl').read_text().splitlines())
                  for name in ('alone', 'two'))
    assert alone == two
    summary = json.loads((tmp_path / 'two' / 'summary.json').read_text())
    still = summary['conditions']['change_20']['policies']
    assert still['dense']['accuracy']['value'] > 0.8
    assert still['memory_events']['flops_share_after_first'] < 0.5
    # at equal FLOPs
    assert (still['memory_pixels']['flops_share_after_first']
            <= still['memory_events']['flops_share_after_first'] * 1.001)
    assert still['first_frame']['by_group'][CHANGED]['accuracy']['value'] < 0.5
    assert still['first_frame']['outdated_tokens'] > 5
