"""
The page in a real browser, with a real vlm_node behind it.

Needs Chromium (apt install chromium) and is skipped without one.
"""

import asyncio
from contextlib import asynccontextmanager, ExitStack
import itertools
import re

from chromium import Chromium, find_chromium
from epvlm_ros.ros.processes import NodeProcess
import pytest
from ros_graph import RosGraph, wait_until
from vlm_asker import save_endless_model, start

pytestmark = [pytest.mark.long, pytest.mark.skipif(
    find_chromium() is None, reason='no Chromium: apt install chromium')]
TOKEN = 'a token of some length'
ENTER, ESCAPE = ('Enter', 13, '\r'), ('Escape', 27)
# Lengths of the answer while it is written.
FOLLOW = """
window.lengths = [];
new MutationObserver(() => {
  const region = document.getElementById('answer');
  if (region.getAttribute('aria-busy') === 'true') window.lengths.push(
    region.querySelector('.said').textContent.length);
}).observe(document.getElementById('answer'), {childList: true, subtree: true, attributes: true});
"""


class Page:
    """The page of `epvlm ui`, and what people do with it."""

    def __init__(self, browser, port):
        self.browser, self.port = browser, port
        self.wait_for, self.run = browser.wait_for, browser.run

    async def ask(self, question):
        await self.run("document.getElementById('question').select()")
        await self.browser.type(question)
        await self.browser.press(*ENTER)

    async def fill(self, selector, value):
        """Type into a field and leave it."""
        await self.run(f"document.querySelector('{selector}').focus()")
        await self.run(f"document.querySelector('{selector}').select()")
        await self.browser.type(str(value))
        await self.browser.press('Tab', 9)

    async def click(self, selector):
        await self.run(f"document.querySelector('{selector}').click()")

    async def give_token(self, token):
        await self.run("document.querySelector('[name=token]').focus()")
        await self.browser.type(token)
        await self.browser.press(*ENTER)

    async def answer(self, question, status=''):
        """Wait for the end of an answer and return all that the page says of it."""
        script = f"""(() => {{
            const region = document.getElementById('answer');
            return region.getAttribute('aria-busy') === 'false'
                && region.querySelector('.asked').textContent === {question!r}
                && region.innerText.includes({status!r}) && region.innerText;
        }})()"""
        return await self.wait_for(script, 40)


def start_ui(stack, graph, folder, name, port=0, **environment):
    """Start the server of the page; return the process and its port."""
    process = stack.enter_context(NodeProcess(
        'ui', ['--port', str(port), '--rate', '20'], folder / f'{name}.log',
        {**graph.environment, **environment}, module='epvlm_ros.cli'))
    found = wait_until(
        lambda: re.search(r'http://127.0.0.1:(\d+)/', process.log.read_text())
        or not process.is_running(), 60, 'the address of the page')
    assert process.is_running(), process.log.read_text()
    return process, int(found[1])


@asynccontextmanager
async def open_page(folder, port):
    (folder / 'browser').mkdir()
    async with Chromium(folder / 'browser') as browser:
        await browser.look(1280, 900, 'light')
        await browser.go_to(f'http://127.0.0.1:{port}/')
        page = Page(browser, port)
        await page.wait_for("document.getElementById('connection')?.textContent === 'connected'")
        await page.wait_for("document.getElementById('nodes').innerText.includes('active')")
        yield page


def test_the_page(tmp_path):
    save_endless_model(tmp_path / 'model')
    with RosGraph(tmp_path) as graph, ExitStack() as stack:
        vlm_node, asker = start(graph, tmp_path / 'model', max_new_tokens=20)
        ui, port = start_ui(stack, graph, tmp_path, 'ui')

        async def follow():
            async with open_page(tmp_path, port) as page:
                frames = asyncio.create_task(keep_showing(asker))
                await check_pictures_and_answers(page)
                await check_cancel(page)
                await check_watches(page)
                await check_parameters(page, asker)
                assert not page.browser.errors
                frames.cancel()
                ui.stop()
                await check_lost_connection(page, lambda: start_ui(
                    stack, graph, tmp_path, 'again', port, EPVLM_UI_TOKEN=TOKEN))
                assert vlm_node.stop() == 0
                await page.wait_for(
                    "document.getElementById('nodes').innerText.includes('vlm_node: not there')",
                    40)
                hosts = {re.match(r'\w+://([^/]*)', address)[1]
                         for address in page.browser.requests if not address.startswith('blob:')}
                assert hosts == {f'127.0.0.1:{port}'}
        asyncio.run(asyncio.wait_for(follow(), 240))


async def check_pictures_and_answers(page):
    """See frames and overlays move, and an answer while it is written; nothing is HTML."""
    await page.run(FOLLOW)
    view = "(!document.getElementById('view').hidden && document.getElementById('view').src)"
    first = await page.wait_for(view)
    await page.wait_for(f'{view} !== {first!r}')
    question = '<b onclick=alert(1)>what do you see?</b>'
    await page.ask(question)
    said = await page.answer(question)
    assert 'of 20 tokens' in said and 'FLOPs saved' in said
    lengths = await page.run('window.lengths')
    assert len(set(lengths)) > 2 and lengths == sorted(lengths)
    assert await page.run("document.querySelectorAll('#answer b, #history b').length") == 0
    await page.wait_for("!!document.querySelector('#history img')?.naturalWidth")
    # The picture of the answer, and that of the next one.
    await page.click('[name=view][value=answered]')
    answered = await page.wait_for(f"{view}.includes('/pictures/') && {view}")
    await page.ask('and now?')
    await page.answer('and now?')
    await page.wait_for(f"{view}.includes('/pictures/') && {view} !== {answered!r}")
    await page.click('[name=view][value=live]')
    await page.wait_for(f"{view}.startsWith('blob:')")
    assert await page.run("document.querySelectorAll('#history > li').length") == 2


async def check_cancel(page):
    """End a long answer by Escape; a number of frames that no question has is refused."""
    await page.click('#ask summary')
    await page.fill('#ask [name=max_new_tokens]', 4000)
    await page.run('window.lengths.length = 0')
    await page.ask('for how long?')
    await page.wait_for('window.lengths.some((length) => length > 3)')
    await page.browser.press(*ESCAPE)
    assert 'cancelled after' in await page.answer('for how long?', 'CANCELLED')
    assert not await page.run("document.getElementById('send').hidden")
    await page.fill('#ask [name=max_new_tokens]', ' ')
    await page.fill('#ask [name=num_moments]', 17)
    await page.ask('what moved?')
    assert 'num_moments is 17: give at most 16' in await page.answer('what moved?', 'INVALID')
    await page.fill('#ask [name=num_moments]', ' ')


async def keep_showing(asker):
    """Give the node frames, no two of which look the same."""
    for number in itertools.count():
        await asyncio.to_thread(asker.show, painted=(number % 20, (number * 7 + 3) % 20))
        await asyncio.sleep(0.1)


async def check_watches(page):
    """Add a watch, see it ask, and end it; one at fault is refused."""
    await page.click('#watch-details summary')
    await page.run("""
        const condition = document.querySelector('#watch [name=condition]');
        condition.value = 'interval';
        condition.dispatchEvent(new Event('change'))""")
    await page.fill('#watch [name=question]', 'who is there?')
    await page.fill('#watch [name=interval]', 1)
    await page.fill('#watch [name=min_gap]', 0.1)
    await page.click('#watch button[type=submit]')
    await page.wait_for("document.getElementById('watches').innerText.includes('every 1.0 s')")
    await page.wait_for(
        "/watch-1 .*who is there/.test(document.getElementById('history').innerText)")
    await page.wait_for("/asked [1-9]/.test(document.getElementById('watches').innerText)")
    await page.click('#watches button')
    await page.wait_for("document.getElementById('watches').innerText === ''")
    await page.fill('#watch [name=interval]', 0)
    await page.click('#watch button[type=submit]')
    await page.wait_for("document.getElementById('watch-result').dataset.level === 'bad'")
    assert 'interval' in await page.run("document.getElementById('watch-result').textContent")


async def check_parameters(page, asker):
    """Change a parameter, and have a wrong value refused in the words of the node."""
    field = '#parameter-\\\\/vlm_node-keep_ratio'
    said = f"document.querySelector('{field} ~ output').textContent"
    await page.wait_for(f"document.querySelector('{field}')?.value === '0.5'")
    await page.fill(field, 0.25)
    await page.wait_for(f"{said} === 'Set.'")
    await page.ask('how many?')
    assert '5 of 20 tokens' in await page.answer('how many?')
    await page.fill(field, 7)
    text = await page.wait_for(f"{said} !== 'Set.' && {said}")
    assert 'keep_ratio' in text
    assert await page.run(f"document.querySelector('{field}').getAttribute('aria-invalid')")
    assert asker.set_parameter('keep_ratio', 0.5).successful  # by somebody else, and seen here
    await page.browser.press(*ESCAPE)


async def check_lost_connection(page, start_again):
    """See that the server has ended; when it comes back with a token, it asks for it."""
    await page.wait_for("document.getElementById('connection').textContent === 'connection lost'")
    assert 'What is shown is old' in await page.run(
        "document.getElementById('alerts').innerText")
    await page.ask('is anybody there?')
    assert 'no connection' in await page.answer('is anybody there?')
    start_again()
    await page.wait_for("!!document.querySelector('[name=token]')", 40)
    await page.give_token('not the right token')
    await page.wait_for("document.body?.innerText.includes('That is not the token')")
    await page.give_token(TOKEN)
    await page.wait_for("document.getElementById('connection')?.textContent === 'connected'")
    await page.wait_for("document.getElementById('alerts').innerText.includes('event_sync_node')")
