"""A server behind TLS: asked if its certificate is trusted, else an error with the remedy."""

import os
from pathlib import Path
import shutil
import ssl
import subprocess
import sys

from chat_server import ChatServer, chunk, script, usage
import pytest

pytestmark = [
    pytest.mark.process, pytest.mark.long,
    pytest.mark.skipif(shutil.which('openssl') is None, reason='no openssl')]
ASK = """
import sys
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
from epvlm_ros.vlm.engine import Moment
from epvlm_ros.vlm.open_engine import open_engine
import numpy as np
engine = open_engine(VlmConfig(device='cpu'), ServerConfig(server=sys.argv[1], server_retries=0))
picture = np.zeros((112, 112, 3), np.uint8)
try:
    print(engine.answer_about([Moment(picture, None)], 'what is there?').text)
except RuntimeError as error:
    print(error)
"""


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    """Return a file with a key and a certificate that it signed itself, for 127.0.0.1."""
    folder = tmp_path_factory.mktemp('tls')
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj',
         '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', 'key.pem', '-out',
         'certificate.pem'], cwd=folder, check=True, capture_output=True)
    return folder / 'certificate.pem'


@pytest.mark.parametrize('is_trusted, words', [
    (True, ['fine']),
    (False, ['certificate that is not trusted', 'set SSL_CERT_FILE to the file of its'])])
def test_a_certificate_decides(certificate, is_trusted, words):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name('key.pem'))
    trust = {'SSL_CERT_FILE': str(certificate)} if is_trusted else {}
    with ChatServer(script(chunk('fine', finish='stop'), usage(110)), tls=context) as server:
        asked = subprocess.run(
            [sys.executable, '-c', ASK, server.url], capture_output=True, text=True, timeout=120,
            cwd=Path(__file__).resolve().parents[3], env={**os.environ, **trust})
    assert [word for word in words if word not in asked.stdout] == [], asked.stderr
