"""One matrix cell of signalrcore: adapts its hub connection to the shared scenario."""
import logging
import os
import uuid
from concurrent.futures import Future

from signalrcore.hub.handlers import InvocationHandler, StreamHandler
from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.messages.cancel_invocation_message import CancelInvocationMessage
from signalrcore.messages.invocation_message import InvocationClientStreamMessage
from signalrcore.messages.stream_invocation_message import StreamInvocationMessage
from signalrcore.protocol.messagepack_protocol import MessagePackHubProtocol
from signalrcore.subject import Subject
from signalrcore.types import HttpTransportType

import scenario


class Connection(scenario.Connection):
    def __init__(self, url, token, reconnect, cell):
        self.pending = {}
        self.opened, self.reconnected = Future(), Future()
        options = {"headers": {}}
        if token:
            options["access_token_factory"] = lambda: token
        builder = HubConnectionBuilder().with_url(url, options={**options, "transport": HttpTransportType.web_sockets})
        builder.configure_logging(logging.CRITICAL)
        if cell["protocol"] == "messagepack":
            builder.with_hub_protocol(MessagePackHubProtocol())
        if reconnect:
            builder.with_automatic_reconnect({"type": "raw", "keep_alive_interval": 1, "reconnect_interval": 1, "max_attempts": 5})
        self.hub = builder.build()
        self.hub.on_open(lambda: self.settle(self.opened))
        self.hub.on_reconnect(lambda: self.settle(self.reconnected))
        self.hub.on_error(self.failed)

    @staticmethod
    def settle(future):
        if not future.done():
            future.set_result(None)

    def failed(self, message):
        future = self.pending.pop(getattr(message, "invocation_id", None), None)
        if future:
            future.set_exception(scenario.HubError(message.error))

    def completed(self, message):
        future = self.pending.pop(message.invocation_id, None)
        if future:
            future.set_result(message.result)

    def start(self):
        self.hub.start()
        self.opened.result(10)

    def stop(self):
        # The library's stop waits until its reader wakes up, which needs one more message of the hub.
        if self.hub.transport and self.hub.transport.is_connected():
            self.send("Sleep", 50)
        self.hub.stop()

    def invoke(self, method, *args):
        future, invocation_id = Future(), str(uuid.uuid4())
        self.pending[invocation_id] = future
        self.hub.invoke(method, list(args), self.completed, invocation_id)
        return future

    def send(self, method, *args):
        self.hub.invoke(method, list(args))

    def stream(self, method, *args):
        # As `hub.stream` does, which sends before its caller can subscribe: first items would be lost.
        stream = scenario.Stream()
        stream.id = str(uuid.uuid4())
        self.pending[stream.id] = stream.done
        handler = StreamHandler(method, stream.id)
        handler.subscribe({"next": stream.next, "complete": self.completed, "error": lambda _: None})
        self.hub.stream_handlers[stream.id].append(handler)
        self.hub.transport.send(StreamInvocationMessage(stream.id, method, list(args), headers={}))
        return stream

    def cancel(self, stream):
        self.hub.transport.send(CancelInvocationMessage(stream.id))

    def upload(self, method, items):
        subject, future = Subject(), Future()
        invocation_id = "call " + subject.invocation_id

        def start():
            # The library's own start sends no invocation id, so no result would come back.
            message = InvocationClientStreamMessage([subject.invocation_id], method, [], headers={})
            message.invocation_id = invocation_id
            self.hub.transport.send(message)

        subject.start = start
        self.pending[invocation_id] = future
        self.hub.stream_handlers[invocation_id].append(InvocationHandler(invocation_id, self.completed))
        self.hub.invoke(method, subject)
        for item in items:
            subject.next(item)
        subject.complete()
        return future

    def on(self, event, handler):
        self.hub.on(event, handler)


scenario.main(Connection)
os._exit(0)  # the library's threads outlive its connections
