"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
import shutil
import subprocess
import time

import aiohttp

NAMES = ('chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome')
OPTIONS = (
    '--headless=new', '--remote-debugging-port=0', '--no-first-run', '--disable-gpu',
    '--disable-background-networking', '--disable-component-update', '--disable-default-apps',
    '--disable-dev-shm-usage', '--disable-extensions', '--disable-sync', '--hide-scrollbars',
    '--mute-audio', '--password-store=basic', '--disable-features=Translate')
START_TIMEOUT_S = 60.0


def find_chromium() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """An asynchronous context manager: a browser with one page, and what it asked the network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.requests: list[str] = []  # addresses of all requests and sockets of the page
        self.errors: list[str] = []  # uncaught errors and lines of console.error
        self._answers: dict[int, asyncio.Future] = {}
        self._number = 0
        self._session: str | None = None

    async def __aenter__(self) -> Chromium:
        as_root = ['--no-sandbox'] if os.geteuid() == 0 else []
        with (self._folder / 'chromium.log').open('w') as log:
            self._process = subprocess.Popen(
                [find_chromium(), *OPTIONS, *as_root, f'--user-data-dir={self._folder}',
                 'about:blank'], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(
            await self._find_address(), max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        target = await self.send('Target.createTarget', url='about:blank')
        attached = await self.send(
            'Target.attachToTarget', targetId=target['targetId'], flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Network', 'Log'):
            await self.send(f'{domain}.enable')
        return self

    async def __aexit__(self, *error) -> None:
        self._reader.cancel()
        await self._socket.close()
        await self._client.close()
        self._process.terminate()
        self._process.wait(20)

    async def send(self, method: str, **parameters) -> dict:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': parameters}
        if self._session is not None:
            message['sessionId'] = self._session
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps(message))
        return await asyncio.wait_for(answer, 30)

    async def go_to(self, address: str) -> None:
        """Go to an address."""
        result = await self.send('Page.navigate', url=address)
        assert 'errorText' not in result, result

    async def run(self, script: str):
        """Return the value of an expression, awaited."""
        result = await self.send(
            'Runtime.evaluate', expression=script, awaitPromise=True, returnByValue=True,
            userGesture=True)
        assert 'exceptionDetails' not in result, (script, result['exceptionDetails'])
        return result['result'].get('value')

    async def wait_for(self, script: str, timeout_s: float = 20.0):
        """Return the first true value of an expression, or fail after a time."""
        deadline_s = time.monotonic() + timeout_s
        while not (value := await self.run(script)):
            if time.monotonic() > deadline_s:
                text = (await self.run('document.body.innerText'))[:2000]
                raise AssertionError(
                    f'not within {timeout_s:g} s: {script}\nthe page says:\n{text}\n{self.errors}')
            await asyncio.sleep(0.05)
        return value

    async def type(self, text: str) -> None:  # noqa: A003
        """Type where the focus is."""
        await self.send('Input.insertText', text=text)

    async def press(self, key: str, code: int, text: str = '') -> None:
        """Press and release a key."""
        for kind in ('keyDown', 'keyUp'):
            await self.send('Input.dispatchKeyEvent', type=kind, key=key, code=key, text=text,
                            windowsVirtualKeyCode=code, nativeVirtualKeyCode=code)

    async def look(self, width: int, height: int, scheme: str, scale: float = 1.0) -> None:
        """Take the size of a window and the colour scheme, light or dark."""
        await self.send('Emulation.setDeviceMetricsOverride', width=width, height=height,
                        deviceScaleFactor=scale, mobile=width < 600)
        await self.send('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': scheme}])

    async def shoot(self, path: Path, whole: bool = True) -> None:
        """Write what is seen, or all of the page, as PNG."""
        result = await self.send(
            'Page.captureScreenshot', format='png', captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(result['data']))

    async def _find_address(self) -> str:
        path = self._folder / 'DevToolsActivePort'
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not (path.is_file() and path.read_text().count('\n')):
            log = self._folder / 'chromium.log'
            assert self._process.poll() is None and time.monotonic() < deadline_s, log.read_text()
            await asyncio.sleep(0.05)
        port, way = path.read_text().split()[:2]
        return f'ws://127.0.0.1:{port}{way}'

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if 'id' in event:
                answer = self._answers.pop(event['id'])
                if 'error' in event:
                    answer.set_exception(AssertionError(event['error']))
                elif not answer.done():
                    answer.set_result(event['result'])
                continue
            self._note(event['method'], event['params'])

    def _note(self, method: str, event: dict) -> None:
        if method == 'Network.requestWillBeSent':
            self.requests.append(event['request']['url'])
        elif method == 'Network.webSocketCreated':
            self.requests.append(event['url'])
        elif method == 'Runtime.exceptionThrown':
            self.errors.append(str(event['exceptionDetails']))
        elif method == 'Log.entryAdded' and event['entry']['level'] == 'error':
            self.errors.append(f'{event["entry"]["text"]} {event["entry"].get("url", "")}')
