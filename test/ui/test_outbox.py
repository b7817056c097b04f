"""What waits for a slow page is bounded."""

import asyncio
import json

from epvlm_ros.ui.outbox import Outbox
import pytest


def test_messages_come_in_order_and_of_a_kind_only_the_latest():
    async def follow():
        outbox = Outbox()
        for number in range(100):
            outbox.put_latest('live', bytes([number]))
            outbox.put_latest('gauges', {'number': number})
        outbox.put({'number': 'first'})
        outbox.put({'number': 'second'})
        outbox.put_latest('text 1', {'number': 'never'})
        outbox.forget('text 1')
        items = [await outbox.get() for _ in range(4)]
        assert [json.loads(item)['number'] for item in items[:2]] == ['first', 'second']
        assert items[2] == b'\x63' and json.loads(items[3]) == {'number': 99}
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(outbox.get(), 0.01)
    asyncio.run(follow())


def test_a_page_that_reads_nothing_has_to_begin_anew():
    async def follow():
        outbox = Outbox(max_waiting=3)
        for number in range(3):
            outbox.put({'number': number})
        assert not outbox.is_full
        outbox.put({'number': 3})
        assert outbox.is_full and await outbox.get() is None
    asyncio.run(follow())


def test_what_waits_for_news_gets_them():
    async def follow():
        outbox = Outbox()
        waiting = asyncio.create_task(outbox.get())
        await asyncio.sleep(0)
        outbox.put({'number': 1})
        assert json.loads(await asyncio.wait_for(waiting, 5)) == {'number': 1}
    asyncio.run(follow())


def test_what_is_no_number_is_no_json():
    async def follow():
        with pytest.raises(ValueError, match='JSON'):
            Outbox().put({'number': float('nan')})
    asyncio.run(follow())
