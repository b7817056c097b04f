"""Names on the hub: what is cached is used as it is, and no byte leaves without permission."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import logging
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

from epvlm_ros.vlm.checkpoint import find_folder, load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from huggingface_hub import constants
from published_checkpoints import save_published_checkpoint
import pytest

pytestmark = pytest.mark.long
NAME = 'epvlm-test/tiny'
COMMIT, OTHER_COMMIT = 40 * 'a', 40 * 'b'
NEEDED = 'Qwen3-VL-2B-Instruct'
# Loads a model that is not here, first without and then with permission to download it.
SCRIPT = """
import sys
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
for allow_download in (False, True):
    try:
        load_checkpoint(VlmConfig(
            model='epvlm-test/none', device='cpu', allow_download=allow_download))
    except ValueError as error:
        print(error, flush=True)
    print('END', allow_download, file=sys.stderr, flush=True)
    sys.stdin.readline()
"""


class Hub:
    """A stand-in for the hub that counts requests; it has one model, or none."""

    def __init__(self, folder: Path | None = None) -> None:
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):

            def do_GET(self) -> None:  # noqa: N802  called so by the server
                hub.requests.append(self.path)
                status, body = hub.respond(self.path)
                self.send_response(status)
                self.send_header('Content-Length', str(len(body)))
                self.send_header('ETag', '"' + str(hash(body)) + '"')
                self.send_header('X-Repo-Commit', COMMIT)
                self.end_headers()
                if self.command == 'GET':
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.folder = folder
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def respond(self, path: str) -> tuple[int, bytes]:
        """Return what the hub says about the parts of its interface that a download uses."""
        if self.folder is None:
            return 404, b''
        path = path.partition('?')[0]
        names = sorted(file.name for file in self.folder.iterdir())
        if path.startswith(f'/api/models/{NAME}/tree/'):
            return 200, json.dumps([
                {'type': 'file', 'path': name, 'oid': name,
                 'size': (self.folder / name).stat().st_size} for name in names]).encode()
        if path.startswith(f'/api/models/{NAME}'):
            return 200, json.dumps({
                'id': NAME, 'modelId': NAME, 'sha': COMMIT, 'private': False, 'tags': [],
                'siblings': [{'rfilename': name} for name in names]}).encode()
        file = self.folder / path.rpartition('/')[2]
        return (200, file.read_bytes()) if file.is_file() else (404, b'')


@pytest.fixture(scope='module', name='source')
def source_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published_checkpoint(tmp_path_factory.mktemp('source') / 'model', NEEDED)


@pytest.fixture(name='cache')
def cache_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub library."""
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> Hub:
    hub = Hub(folder)
    monkeypatch.setattr(constants, 'ENDPOINT', hub.url)
    monkeypatch.setattr(
        constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
        hub.url + '/{repo_id}/resolve/{revision}/{filename}')
    return hub


@pytest.fixture(name='hub')
def hub_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a hub without any model."""
    hub = stand_in(monkeypatch, None)
    yield hub
    hub.server.shutdown()


def put_into(cache: Path, source: Path, commit: str = COMMIT, ref: str = 'main') -> Path:
    """Lay out a snapshot as the hub library does, and return it."""
    model = cache / ('models--' + NAME.replace('/', '--'))
    snapshot = model / 'snapshots' / commit
    snapshot.mkdir(parents=True)
    for path in source.iterdir():
        (snapshot / path.name).symlink_to(path)
    (model / 'refs').mkdir(exist_ok=True)
    (model / 'refs' / ref).write_text(commit, encoding='utf-8')
    return snapshot


def find_error(**config: object) -> str:
    with pytest.raises(ValueError) as error:
        find_folder(VlmConfig(**config))  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.process
def test_without_permission_no_byte_leaves_the_machine(tmp_path: Path) -> None:
    hub = Hub()
    with subprocess.Popen(
            [sys.executable, '-c', SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={
                **os.environ, 'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path)}) as process:
        assert process.stdin and process.stdout and process.stderr
        assert 'allow_download: true' in process.stdout.readline()
        while not process.stderr.readline().startswith('END False'):
            pass
        assert hub.requests == []
        process.stdin.write('\n')
        process.stdin.flush()
        # the stand-in would have seen a request: with permission it sees one
        assert 'check the hub name' in process.stdout.readline()
        process.stdin.write('\n')
        process.stdin.close()
        assert process.wait() == 0
    assert any(path.startswith('/api/models/epvlm-test/none') for path in hub.requests)
    hub.server.shutdown()


@pytest.mark.parametrize('allow_download', [False, True])
def test_what_is_cached_is_used_without_a_request(
    allow_download: bool, cache: Path, hub: Hub, source: Path,
) -> None:
    snapshot = put_into(cache, source)
    config = VlmConfig(model=NAME, device='cpu', allow_download=allow_download)
    assert find_folder(config) == snapshot
    load_checkpoint(config)
    assert hub.requests == []


def test_a_revision_chooses_the_snapshot(cache: Path, hub: Hub, source: Path) -> None:
    main = put_into(cache, source)
    tagged = put_into(cache, source, OTHER_COMMIT, 'v1')
    assert find_folder(VlmConfig(model=NAME)) == main
    for config in (
            VlmConfig(model=NAME, revision='v1'), VlmConfig(model=f'{NAME}@v1'),
            VlmConfig(model=f'{NAME}@v1', revision='v1'),
            VlmConfig(model=NAME, revision=OTHER_COMMIT)):
        assert find_folder(config) == tagged
    assert 'it is not on this machine at revision v2' in find_error(model=f'{NAME}@v2')
    assert 'give one revision' in find_error(model=f'{NAME}@v1', revision='v2')
    assert 'give name@revision' in find_error(model=f'{NAME}@')
    assert 'is a folder: leave it empty' in find_error(model=str(source), revision='v1')
    assert hub.requests == []


def test_half_a_snapshot_is_told(cache: Path, hub: Hub, source: Path) -> None:
    (put_into(cache, source) / 'model.safetensors').unlink()
    assert 'its copy on this machine lacks model.safetensors' in find_error(model=NAME)


def test_a_model_is_downloaded_once(
    cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = stand_in(monkeypatch, source)
    config = VlmConfig(model=NAME, device='cpu', allow_download=True)
    folder = find_folder(config)
    assert folder.name == COMMIT and {path.name for path in folder.iterdir()} == {
        path.name for path in source.iterdir()}
    load_checkpoint(config)
    num_requests = len(hub.requests)
    hub.server.shutdown()
    assert find_folder(config) == folder and len(hub.requests) == num_requests


def test_no_network_is_told_in_seconds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')  # nobody listens
    start = time.monotonic()
    message = find_error(model=NAME, allow_download=True)
    assert time.monotonic() - start < 20.0
    assert 'check the hub name, the revision and the network' in message


def test_a_snapshot_without_a_generation_config_says_so(
    cache: Path, source: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    (put_into(cache, source) / 'generation_config.json').unlink()
    with caplog.at_level(logging.WARNING):
        load_checkpoint(VlmConfig(model=NAME, device='cpu'))
    assert 'has no generation_config.json' in caplog.text and 'repetition penalty' in caplog.text
