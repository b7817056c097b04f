"""The VLM node and its frames over DDS: computed ahead, several at once, too large."""

import json
from pathlib import Path
import resource
import time

from epvlm_interfaces.msg import Answer
from epvlm_ros.ros.index_ranges import unpack_indices
import pytest
from qwen_checkpoints import write_json
from ros_graph import RosGraph, wait_until
from vlm_asker import save_endless_model, start


@pytest.fixture(scope='module')
def node(tmp_path_factory):
    folder = save_endless_model(tmp_path_factory.mktemp('model'))
    processor = json.loads((folder / 'preprocessor_config.json').read_text())
    processor['size']['longest_edge'] = 10 ** 7  # pixels: large images stay large
    write_json(folder / 'preprocessor_config.json', processor)
    with RosGraph(tmp_path_factory.mktemp('graph')) as graph:
        yield start(graph, folder)


def test_a_frame_is_computed_ahead_of_the_question(node):
    _, asker = node
    asker.show()
    assert asker.ask('what moves?').flops_reused == 0
    assert asker.set_parameter('encode_ahead', 'on_arrival').successful
    frame = asker.show(active_cells=((28, 56), (0, 28)))
    answer = asker.ask('what moves?')
    assert answer.header == frame.header and answer.status == Answer.OK
    assert 0 < answer.flops_reused < answer.flops_used
    # a query that sets the tokens for itself, and one about a frame that cannot be encoded
    assert asker.ask('what moves?', keep_ratio=0.1).flops_reused == 0
    asker.show(encoding='no_such_encoding')
    broken = asker.ask('what moves?')
    assert broken.status == Answer.INVALID and 'no_such_encoding' in broken.message


def test_a_question_at_work_goes_first(node):
    _, asker = node
    asker.show(active_cells=((56, 84), (28, 56)))
    goal = asker.send_goal('talk on', max_new_tokens=400)
    wait_until(lambda: goal.texts, 30, 'the first text')
    frames = [asker.show(active_cells=((0, 28), (28 * index, 28 * index + 28)))
              for index in range(4)]
    waiting = asker.send_goal('and now?', max_new_tokens=5)
    assert goal.result()[1].status == Answer.OK
    answer = waiting.result()[1]
    assert answer.header == frames[-1].header and answer.status == Answer.OK


def test_at_a_rate_questions_are_about_the_last_frame_that_was_taken(node):
    _, asker = node
    assert asker.set_parameter('encode_rate', 0.5).successful
    assert asker.set_parameter('encode_ahead', 'at_rate').successful
    time.sleep(2.1)  # after this the next frame is taken
    taken = asker.show()
    asker.show(active_cells=((28, 56), (28, 56)))
    answer = asker.ask('what moves?')
    assert answer.header == taken.header and answer.flops_reused > 0
    assert asker.set_parameter('encode_ahead', 'on_demand').successful


def test_a_question_is_about_several_moments(node):
    _, asker = node
    assert asker.set_parameter('num_moments', 3).successful
    assert asker.set_parameter('moment_period', 0.2).successful
    asker.show(age_s=0.6)
    asker.show(age_s=0.3)
    last = asker.show(active_cells=((28, 56), (28, 56)))
    answer = asker.ask('what moves?', keep_ratio=0.3)
    assert (answer.status, answer.moments, answer.tokens, answer.tokens_kept) == (
        Answer.OK, 3, 60, 6)
    assert answer.header == last.header and (answer.rows, answer.cols) == (4, 5)
    # of 6 tokens for three frames that look the same the latest has all but one each
    moments = [int(index) // 20 for index in unpack_indices(answer.kept_tokens)]
    assert moments == [0, 1, 2, 2, 2, 2]
    assert asker.set_parameter('num_moments', 1).successful
    assert asker.ask('what moves?').moments == 1


def test_a_frame_that_does_not_fit_into_memory_is_an_error_with_a_remedy(node):
    process, asker = node
    asker.show()
    pages = int(Path(f'/proc/{process.pid}/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + 150_000_000
    before = resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        # 5041 visual tokens: the patches alone are 95 megabytes, and they are made of copies
        asker.show(size=(1988, 1988))
        answer = asker.ask('what moves?', keep_ratio=1.0)
        assert answer.status == Answer.ERROR
        assert 'not enough memory' in answer.message and 'lower keep_ratio' in answer.message
        asker.show()
        assert asker.ask('what moves?').status == Answer.OK
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_AS, before)
    assert process.is_running()
    log = process.log.read_text()
    assert 'no_such_encoding' in log and 'not enough memory' in log and 'Traceback' not in log
