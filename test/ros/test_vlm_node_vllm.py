"""
The VLM node and a real server, epvlm-serve, over DDS and HTTP.

vLLM has an environment of its own: the variable EPVLM_SERVE names its epvlm-serve.
"""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

from action_msgs.msg import GoalStatus
from epvlm_interfaces.msg import Answer
from epvlm_ros.vlm.checkpoint import EMBEDDED_MODEL
import pytest
from qwen_checkpoints import make_model, save_checkpoint
from qwen_shapes import END_OF_TEXT, Shape, SHAPES, TURN_END
from ros_graph import claim_domain, RosGraph, wait_until
from vlm_asker import start

SERVE = os.environ.get('EPVLM_SERVE', '')
START_TIMEOUT_S = 280
OPTIONS = ['--served-model-name', 'served', '--host', '127.0.0.1', '--dtype', 'float32',
           '--enforce-eager', '--max-model-len', '1024', '--gpu-memory-utilization', '0.1',
           '--kv-cache-memory-bytes', str(1 << 27)]
ENVIRONMENT = {'VLLM_CPU_OMP_THREADS_BIND': 'nobind', 'OMP_NUM_THREADS': '1',
               'VLLM_NO_USAGE_STATS': '1', 'DO_NOT_TRACK': '1', 'HF_HUB_OFFLINE': '1'}
ENDLESS = 900  # tokens; the context has 1024

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900),
              pytest.mark.skipif(not SERVE, reason='no EPVLM_SERVE')]


def save_model(folder):
    """
    Write a checkpoint with random weights that never ends an answer by itself.

    vLLM's attention on a CPU wants heads of 32.
    """
    SHAPES['heads of 32'] = Shape(
        'qwen2_vl',
        {'depth': 2, 'embed_dim': 64, 'num_heads': 2, 'mlp_ratio': 2, 'hidden_size': 128},
        {'hidden_size': 128, 'intermediate_size': 112, 'num_hidden_layers': 2,
         'num_attention_heads': 4, 'num_key_value_heads': 2}, (4, 6, 6), True)
    model = make_model('heads of 32')
    model.get_input_embeddings().weight.data[[TURN_END, END_OF_TEXT]] = 0.0  # never likeliest
    return save_checkpoint(folder, model)


class Server:
    """A context manager: an epvlm-serve in a process group of its own."""

    def __init__(self, model: Path, port: int, log: Path) -> None:
        self._command = [SERVE, str(model), '--port', str(port), *OPTIONS]
        self.url, self._log = f'http://127.0.0.1:{port}', log

    def __enter__(self):
        with self._log.open('ab') as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **ENVIRONMENT})
        wait_until(lambda: self._process.poll() is not None or self._is_ready(),
                   START_TIMEOUT_S, 'the server')
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        return self

    def __exit__(self, *error):
        self.kill()

    def kill(self):
        """End all its processes at once, as a power cut would."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)

    def metric(self, name):
        """Return the sum of a metric over its labels."""
        with urlopen(self.url + '/metrics', timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.rpartition(' ')[2]) for line in lines
                   if line.startswith((name + '{', name + ' ')))

    def _is_ready(self):
        time.sleep(0.2)
        try:
            with urlopen(self.url + '/health', timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """Return a server with a model that never ends an answer, and a node that asks it."""
    folder = tmp_path_factory.mktemp('served')
    model = save_model(folder / 'model')
    with Server(model, 18431, folder / 'serve.log') as server, RosGraph(folder) as graph:
        process, asker = start(
            graph, model, server=server.url, max_new_tokens=4, server_timeout=60.0,
            server_retries=0, server_max_failures=2, server_pause=1.0)
        asker.show()
        assert asker.ask('what moves?').status == Answer.OK
        yield server, process, asker


def test_text_streams_and_a_cancelled_answer_stops_on_the_server_too(served):
    server, _, asker = served
    asker.show()
    before = server.metric('vllm:generation_tokens_total')
    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS, keep_ratio=0.25)
    wait_until(lambda: len(goal.texts) >= 5, 60, 'some text')
    goal.cancel()
    status, answer = goal.result()
    assert (status, answer.status) == (GoalStatus.STATUS_CANCELED, Answer.CANCELLED)
    assert answer.tokens_kept == 5 and answer.generated_tokens >= 5
    wait_until(lambda: server.metric('vllm:num_requests_running') == 0, 20, 'the end of work')
    written = server.metric('vllm:generation_tokens_total') - before
    print(f'{answer.generated_tokens} tokens came, {written:.0f} were written')
    assert written <= answer.generated_tokens + 10  # what was under way
    time.sleep(1.0)
    assert server.metric('vllm:generation_tokens_total') - before == written


def test_the_deadline_goes_through(served):
    server, _, asker = served
    asker.show()
    answer = asker.ask('talk on', max_new_tokens=ENDLESS, deadline=1.0)
    assert answer.status == Answer.DEADLINE and answer.generated_tokens > 0
    wait_until(lambda: server.metric('vllm:num_requests_running') == 0, 20, 'the end of work')


def test_a_server_that_is_killed_in_the_middle_and_started_again(served):
    server, process, asker = served
    asker.show()
    goal = asker.send_goal('talk on', max_new_tokens=ENDLESS)
    wait_until(lambda: len(goal.texts) >= 5, 60, 'some text')
    start_s = time.monotonic()
    server.kill()
    status, answer = goal.result()
    assert (status, answer.status) == (GoalStatus.STATUS_ABORTED, Answer.ERROR)
    print(answer.message)
    away = asker.ask('what moves?')
    assert away.status == Answer.ERROR and 'cannot reach' in away.message
    assert 'left alone' in asker.ask('what moves?').message
    assert time.monotonic() - start_s < 5.0
    with server:
        asker.show()
        wait_until(lambda: asker.ask('what moves?').status == Answer.OK, 60, 'a good answer')
    assert process.is_running() and 'Traceback' not in process.log.read_text()


def test_the_answers_of_the_demo_are_those_of_the_server(tmp_path):
    domain_id, lock = claim_domain()  # the node of the tests before answers in theirs
    with lock, Server(EMBEDDED_MODEL, 18432, tmp_path / 'serve.log') as server:
        result = subprocess.run(
            [sys.executable, '-m', 'epvlm_ros.demo', '--output', str(tmp_path),
             '--server', server.url], capture_output=True, text=True, timeout=400,
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)})
    print(result.stdout)
    assert result.returncode == 0, result.stdout[-3000:]
    assert '"model": "served at http://127.0.0.1:18432"' in result.stdout
