"""One matrix cell of pysignalr: adapts its asyncio client, run in one thread, to the shared scenario."""
import asyncio
import logging
import os
import threading
import uuid
from concurrent.futures import Future

from pysignalr.client import SignalRClient
from pysignalr.messages import CancelInvocationMessage
from pysignalr.messages import CompletionClientStreamMessage
from pysignalr.messages import InvocationClientStreamMessage
from pysignalr.messages import StreamInvocationMessage
from pysignalr.messages import StreamItemMessage
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol

import scenario

logging.getLogger("pysignalr").setLevel(logging.CRITICAL)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def settle(future, *, result=None, error=None):
    if not future.done():
        future.set_exception(scenario.HubError(error)) if error else future.set_result(result)


class Connection(scenario.Connection):
    def __init__(self, url, token, reconnect, cell):
        self.opened, self.reconnected = Future(), Future()
        self.client = SignalRClient(
            url,
            protocol=MessagepackProtocol() if cell["protocol"] == "messagepack" else JSONProtocol(),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            max_size=8 * scenario.MIB,
            retry_sleep=0.2,
        )
        self.client.on_open(self.open)
        self.client.on_error(self.ignore)
        self.running = None

    async def open(self):
        # The second opening is the reconnect.
        settle(self.reconnected if self.opened.done() else self.opened)

    async def ignore(self, _message):
        pass  # every invocation has its own callback, which gets the same message

    def start(self):
        self.running = asyncio.run_coroutine_threadsafe(self.client.run(), loop)
        self.opened.result(10)

    def stop(self):
        async def close():
            socket = self.client._transport._ws
            if self.running:
                self.running.cancel()
            if socket:
                await socket.close()

        asyncio.run_coroutine_threadsafe(close(), loop).result(5)

    def post(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    @staticmethod
    def completing(future):
        async def completed(message):
            settle(future, result=message.result, error=message.error)

        return completed

    def invoke(self, method, *args):
        future = Future()
        self.post(self.client.send(method, list(args), self.completing(future)))
        return future

    def send(self, method, *args):
        self.post(self.client.send(method, list(args)))

    def stream(self, method, *args):
        stream = scenario.Stream()

        async def next_item(item):
            stream.next(item)

        # As `client.stream` does, with the id kept for the cancellation.
        stream.id = str(uuid.uuid4())
        completed = self.completing(stream.done)
        self.client._invocation_handlers[stream.id] = completed
        self.client._stream_handlers[stream.id] = (next_item, completed, completed)
        self.post(self.client._transport.send(StreamInvocationMessage(stream.id, method, list(args))))
        return stream

    def cancel(self, stream):
        self.post(self.client._transport.send(CancelInvocationMessage(stream.id)))

    def upload(self, method, items):
        future, invocation_id, stream_id = Future(), str(uuid.uuid4()), str(uuid.uuid4())

        async def upload():
            transport = self.client._transport
            self.client._invocation_handlers[invocation_id] = self.completing(future)
            # The library's own `client_stream` sends no invocation id, so no result would come back.
            await transport.send(InvocationClientStreamMessage([stream_id], method, [], invocation_id=invocation_id))
            for item in items:
                await transport.send(StreamItemMessage(stream_id, item))
            await transport.send(CompletionClientStreamMessage(stream_id))

        self.post(upload())
        return future

    def on(self, event, handler):
        async def handle(args):
            return handler(args)

        self.client.on(event, handle)


scenario.main(Connection)
os._exit(0)
