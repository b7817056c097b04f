"""A real `epvlm-serve` in processes of its own, and requests to it over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
import http.client
import io
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from PIL import Image

START_SECONDS = 300  # 20 on a machine with nothing else to do


class RunningServer:
    """A server on this machine."""

    def __init__(self, port: int, process: subprocess.Popen) -> None:
        self.port, self.process = port, process

    def post(
        self, body: dict[str, Any] | bytes, path: str = '/v1/chat/completions',
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        try:
            connection.request(
                'POST', path, data, {'Content-Type': 'application/json', **(headers or {})})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def stream(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the parts of an answer as they come."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        try:
            connection.request(
                'POST', '/v1/chat/completions', json.dumps(body),
                {'Content-Type': 'application/json'})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            for line in response:
                if line.startswith(b'data: {'):
                    yield json.loads(line[6:])
        finally:
            connection.close()

    def peak_memory_mb(self) -> float:
        """Return the most memory that the process that takes requests has had, in MB."""
        status = Path(f'/proc/{self.process.pid}/status').read_text()
        return int(status.split('VmHWM:')[1].split()[0]) / 1024


@contextmanager
def start_server(folder: Path, log: Path, *options: str) -> Iterator[RunningServer]:
    """Start a server and wait until it answers; its name of the model is ``tiny``."""
    with socket.socket() as chosen:
        chosen.bind(('127.0.0.1', 0))
        port = chosen.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name('epvlm-serve')), str(folder), '--host', '127.0.0.1',
        '--port', str(port), '--served-model-name', 'tiny', '--dtype', 'float32',
        '--enforce-eager', '--max-model-len', '1024', '--max-num-seqs', '16',
        '--gpu-memory-utilization', '0.05', '--kv-cache-memory-bytes', str(2 ** 27),
        '--distributed-executor-backend', 'uni', *options]  # one process less to start
    with log.open('w') as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True)
        try:
            server = RunningServer(port, process)
            _wait_until_it_answers(server, log)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_it_answers(server: RunningServer, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.process.poll() is None:
        try:
            connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=5)
            connection.request('GET', '/health')
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError('the server did not start:\n' + log.read_text()[-3000:])


def make_request(
    pictures: list[Image.Image], kept: Any = None, grids: Any = None, **options: Any,
) -> dict[str, Any]:
    """Return a question about pictures as a robot sends it."""
    content: list[dict[str, Any]] = [
        {'type': 'image_url', 'image_url': {'url': _as_url(picture)}} for picture in pictures]
    content.append({'type': 'text', 'text': 'what color is the moving circle ?'})
    request = {
        'model': 'tiny', 'messages': [{'role': 'user', 'content': content}], 'temperature': 0,
        'max_tokens': 16, 'logprobs': True, 'top_logprobs': 2, **options}
    if kept is not None:
        request['mm_processor_kwargs'] = {'kept_indices': kept, 'token_grids': grids}
    return request


def _as_url(picture: Image.Image) -> str:
    data = io.BytesIO()
    picture.save(data, 'JPEG', quality=90)
    return 'data:image/jpeg;base64,' + base64.b64encode(data.getvalue()).decode()
