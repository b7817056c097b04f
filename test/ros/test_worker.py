"""A computation that does not stop in time is waited for, never run beside another one."""

import threading

from epvlm_ros.ros import worker
from epvlm_ros.ros.vlm_node import VlmNode
from qwen_checkpoints import make_model, save_checkpoint
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter


def test_whoever_waits_is_told_even_when_the_work_does_not_end(monkeypatch):
    monkeypatch.setattr(worker, 'STOP_TIMEOUT_S', 0.1)
    computing, may_end, abandoned = threading.Event(), threading.Event(), []

    def compute(item, should_stop):
        computing.set()
        may_end.wait(20.0)

    at_work = worker.Worker(compute, abandoned.append, max_queued=2)
    assert at_work.submit('first') and computing.wait(20.0)
    assert at_work.submit('second') and at_work.submit('third') and not at_work.submit('fourth')
    assert at_work.num_queued == 2
    assert not at_work.stop()
    assert abandoned == ['second', 'third', 'first']
    assert not at_work.submit('fifth')
    may_end.set()
    assert at_work.stop()
    assert abandoned == ['second', 'third', 'first']


def test_the_node_waits_for_what_is_still_computed(context, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, 'STOP_TIMEOUT_S', 0.2)
    node = VlmNode(context=context, parameter_overrides=[
        Parameter('model', value=str(save_checkpoint(tmp_path, make_model('narrow')))),
        Parameter('device', value='cpu')])
    computing, may_end = threading.Event(), threading.Event()

    def compute(should_stop):
        computing.set()
        may_end.wait(20.0)

    node._worker.when_idle(compute)
    assert computing.wait(20.0)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert node.trigger_cleanup() == TransitionCallbackReturn.FAILURE
    may_end.set()
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    node.destroy_node()


def test_lower_ranks_wait_for_all_others_and_fill_no_queue():
    may_begin, done = threading.Event(), []

    def handle(item, should_stop):
        may_begin.wait(20.0)
        done.append(item)

    at_work = worker.Worker(handle, done.append, max_queued=2)
    assert at_work.submit('first')
    while at_work.num_queued:
        pass
    assert at_work.submit('clock', rank=2)
    for name in ('watch 1', 'watch 2', 'watch 3'):
        assert at_work.submit(name, rank=1)
    assert at_work.submit('person 1') and at_work.submit('person 2')
    assert not at_work.submit('person 3')
    assert at_work.num_queued == 6 and at_work.withdraw('watch 2')
    ended = threading.Event()
    at_work.when_idle(lambda should_stop: ended.set())
    may_begin.set()
    assert ended.wait(20.0)
    assert done == ['first', 'person 1', 'person 2', 'watch 1', 'watch 3', 'clock']
    assert at_work.stop()


def test_lanes_take_turns_with_items_and_when_idle():
    may_begin, ended, done = threading.Event(), threading.Event(), []

    def handle(item, should_stop):
        may_begin.wait(20.0)
        done.append(item)

    at_work = worker.Worker(handle, done.append, max_queued=2)
    assert at_work.submit('front 0', 'front')
    while at_work.num_queued:
        pass
    assert at_work.submit('front 1', 'front') and at_work.submit('front 2', 'front')
    assert not at_work.submit('front 3', 'front')  # its lane is full, the other is not
    assert at_work.submit('rear 1', 'rear')
    for name in ('front', 'rear', 'front'):  # the last one in place of the first
        at_work.when_idle(
            lambda should_stop, name=name: done.append(f'{name} idle'), name)
    at_work.when_idle(lambda should_stop: ended.set(), 'last')
    may_begin.set()
    assert ended.wait(20.0)
    assert done == ['front 0', 'front 1', 'rear 1', 'front 2', 'front idle', 'rear idle']
    assert at_work.stop()


def test_a_task_gives_way_to_what_it_says():
    begun, told, seen, done = threading.Event(), threading.Event(), [], []

    def task(should_stop):
        begun.set()
        while not told.is_set():
            seen.append(should_stop())
            if seen[-1]:
                told.set()

    at_work = worker.Worker(lambda item, should_stop: done.append(item), done.append, max_queued=2)
    at_work.when_idle(task, gives_way_to=lambda item: item == 'newer')
    assert begun.wait(20.0)
    assert at_work.submit('newer', 'front')
    assert told.wait(20.0)
    assert at_work.stop() and done == ['newer']
    begun.clear()
    told.clear()
    other = worker.Worker(lambda item, should_stop: done.append(item), done.append, max_queued=2)
    other.when_idle(task, gives_way_to=lambda item: item == 'newer')
    assert begun.wait(20.0)
    num_seen = len(seen)
    assert other.submit('same', 'front')
    while len(seen) < num_seen + 10:
        pass
    assert seen[num_seen + 5:num_seen + 10] == [False] * 5 and other.num_queued == 1
    told.set()
    assert other.stop()


def test_a_last_task_begins_after_all_others_and_gives_way_to_watches():
    begun, told, done = threading.Event(), threading.Event(), []

    def last(should_stop):
        begun.set()
        while not should_stop():
            pass
        done.append('last')
        told.set()

    at_work = worker.Worker(lambda item, should_stop: done.append(item), done.append, max_queued=2)
    with at_work._changed:  # nothing begins in between
        at_work.when_idle(last, gives_way_to=lambda item: True, comes_last=True)
        at_work.when_idle(lambda should_stop: done.append('update'), 'front')
    assert begun.wait(20.0)
    assert at_work.submit('watch', 'front', rank=1)
    assert told.wait(20.0)
    assert at_work.stop() and done == ['update', 'last', 'watch']
