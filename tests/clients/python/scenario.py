"""The fifteen steps of one matrix cell for the Python clients (see js/scenario.mjs, whose steps these are).

Why here: both clients answer by callbacks, so their programs only adapt them to `Connection` below and share the steps.
Invariant: a step waits for events and is ended by its time-out; each ends in exactly one report.
"""
import json
import sys
import threading
import time
from concurrent.futures import Future

STEPS = ["connect", "invoke", "void", "hub-exception", "unknown-method", "server-stream", "client-stream", "cancel",
         "client-result", "group", "user", "one-mib", "in-order", "clean-stop", "reconnect"]
MIB = 1024 * 1024
NUMBERED = 1000


class HubError(Exception):
    """The hub's error text of a failed invocation."""


class Stream:
    """A server stream: items arrive until `done` has a result or the hub's error."""

    def __init__(self):
        self.items = []
        self.three = Future()
        self.done = Future()
        self.id = None

    def next(self, item):
        self.items.append(item)
        if len(self.items) == 3:
            self.three.set_result(None)


class Connection:
    """What a client's adapter offers. `invoke` gives a future; an event handler gets the list of arguments."""

    def start(self): raise NotImplementedError
    def stop(self): raise NotImplementedError
    def invoke(self, method, *args): raise NotImplementedError
    def send(self, method, *args): raise NotImplementedError
    def stream(self, method, *args): raise NotImplementedError
    def cancel(self, stream): raise NotImplementedError
    def upload(self, method, items): raise NotImplementedError
    def on(self, event, handler): raise NotImplementedError


def report(**line):
    print(json.dumps(line), flush=True)


def same(actual, expected, what):
    if actual != expected:
        shown = repr(actual)
        raise AssertionError(f"{what}: expected {expected!r}, got {shown[:200]}")


class Scenario:
    """Runs the cell that the command line tells; `open_connection(url, token, reconnect, cell)` makes connections."""

    def __init__(self, cell, open_connection):
        self.cell = cell
        self.open_connection = open_connection
        self.timeout = cell["stepTimeoutMs"] / 1000
        self.opened = []

    def run(self):
        for step in STEPS:
            if step in self.cell["lacks"]:
                report(step=step, na=self.cell["lacks"][step])
                continue
            started = time.monotonic()
            error = self.run_step(getattr(self, step.replace("-", "_")))
            elapsed = round((time.monotonic() - started) * 1000)
            if error is None:
                report(step=step, ok=True, ms=elapsed)
                continue
            report(step=step, error=error)
            if step == "connect":
                for later in STEPS[1:]:
                    report(step=later, error="not connected")
                return
        for connection in self.opened:
            self.run_step(connection.stop)

    def run_step(self, function):
        ended = Future()

        def body():
            try:
                function()
                ended.set_result(None)
            except Exception as error:  # a step's failure of any kind is its report
                ended.set_result(f"{type(error).__name__}: {error}")

        threading.Thread(target=body, daemon=True).start()
        try:
            return ended.result(self.timeout)
        except TimeoutError:
            return f"nothing within {self.timeout} s"

    def build(self, path, token=False, base=None, reconnect=False):
        url = (base or self.cell["base"]) + path
        if not token:
            url += "?user=" + self.cell["user"].replace(" ", "%20")
        connection = self.open_connection(url, self.cell["token"] if token else None, reconnect, self.cell)
        self.opened.append(connection)
        return connection

    def call(self, connection, method, *args):
        return connection.invoke(method, *args).result(self.timeout)

    def failure(self, future):
        try:
            value = future.result(self.timeout)
        except HubError as error:
            return str(error)
        raise AssertionError(f"expected a failure, got {value!r}")

    def connect(self):
        self.main = self.build("/contract", token=True)
        self.observer = self.build("/contract")
        self.messages = {}
        for connection in (self.main, self.observer):
            connection.on("Message", lambda args, of=connection: self.arrived(of, args[0]))
        self.numbers, self.numbered = [], Future()
        self.main.on("Numbered", self.number)
        self.main.on("Question", lambda args: f"answer to {args[0]}")
        self.main.start()
        self.observer.start()
        self.main_id = self.call(self.main, "ConnectionId")
        same(self.call(self.main, "Transport"), self.cell["hubTransport"], "Transport()")

    def arrived(self, connection, text):
        waiting = self.messages.pop((id(connection), text), None)
        if waiting:
            waiting.set_result(None)

    def expect(self, connection, text):
        future = Future()
        self.messages[(id(connection), text)] = future
        return future

    def number(self, args):
        self.numbers.append(args[0])
        if len(self.numbers) == NUMBERED:
            self.numbered.set_result(None)

    def event(self, name, milliseconds=15000):
        same(self.call(self.observer, "WaitForEvent", self.main_id, name, milliseconds), True, f"event {name}")

    def invoke(self):
        value = {"text": "Grüße, 世界 🦀 \u001e", "list": [1, -2, 3.5, None, True], "deep": {"empty": {}}}
        same(self.call(self.main, "Echo", value), value, "Echo")
        same(self.call(self.main, "EchoText", "plain"), "plain", "EchoText")
        same(self.call(self.main, "Add", 40, 2), 42, "Add")

    def void(self):
        same(self.call(self.main, "Void"), None, "Void")
        self.event("void")

    def hub_exception(self):
        same(self.failure(self.main.invoke("ThrowHub", "my text")),
             "An unexpected error occurred invoking 'ThrowHub' on the server. HubException: my text", "HubException")
        same(self.failure(self.main.invoke("Throw")), "An unexpected error occurred invoking 'Throw' on the server.", "Throw")

    def unknown_method(self):
        same(self.failure(self.main.invoke("NoSuchMethod")),
             "Failed to invoke 'NoSuchMethod' due to an error on the server. HubException: Method does not exist.", "unknown")

    def server_stream(self):
        stream = self.main.stream("Counter", 100)
        stream.done.result(self.timeout)
        same(stream.items, list(range(100)), "Counter")
        broken = self.main.stream("CounterThenThrow", 3)
        same(self.failure(broken.done),
             "An error occurred on the server while streaming results. HubException: stream broke", "CounterThenThrow")

    def client_stream(self):
        same(self.main.upload("Upload", range(1, 101)).result(self.timeout), 5050, "Upload")
        same(self.main.upload("UploadStrings", ["a", "ß", "🦀"]).result(self.timeout), "aß🦀", "UploadStrings")

    def cancel(self):
        stream = self.main.stream("Ticks", 10)
        stream.three.result(self.timeout)
        self.main.cancel(stream)
        same(stream.items[:3], [0, 1, 2], "Ticks")
        self.event("stream-cancelled")

    def client_result(self):
        same(self.call(self.main, "Ask", "one"), "answer to one", "Ask")
        same(self.call(self.observer, "AskOn", self.main_id, "two"), "answer to two", "AskOn")

    def group(self):
        group = "group of " + self.cell["name"]
        self.call(self.main, "JoinGroup", group)
        first = self.expect(self.main, "to one")
        self.call(self.observer, "SendToGroup", group, "to one")
        first.result(self.timeout)
        self.call(self.observer, "JoinGroup", group)
        both = [self.expect(connection, "to both") for connection in (self.main, self.observer)]
        self.call(self.main, "SendToGroup", group, "to both")
        for one in both:
            one.result(self.timeout)
        self.call(self.main, "LeaveGroup", group)
        stray = self.expect(self.main, "after leaving")
        self.call(self.observer, "SendToGroup", group, "after leaving")
        self.call(self.main, "Echo", "behind it")
        same(stray.done(), False, "a message after LeaveGroup")

    def user(self):
        for connection in (self.main, self.observer):
            same(self.call(connection, "User"), self.cell["user"], "User()")
        both = [self.expect(connection, "to the user") for connection in (self.main, self.observer)]
        self.call(self.observer, "SendToUser", self.cell["user"], "to the user")
        for one in both:
            one.result(self.timeout)

    def one_mib(self):
        large = self.build("/contract-large", token=True)
        large.start()
        same(self.call(large, "Length", "y" * MIB), MIB, "Length")
        back = self.call(large, "Big", MIB)
        same((len(back), set(back)), (MIB, {"x"}), "Big")
        large.stop()

    def in_order(self):
        for i in range(NUMBERED):
            self.main.send("Collect", i)
        same(self.call(self.main, "Collected"), [NUMBERED, 0], "Collected")
        self.call(self.main, "Push", NUMBERED, 64)
        self.numbered.result(self.timeout)
        same(self.numbers, list(range(NUMBERED)), "Numbered")

    def clean_stop(self):
        self.main.stop()
        self.event("disconnected", 15000)
        same(self.call(self.observer, "DisconnectError", self.main_id), None, "DisconnectError")

    def reconnect(self):
        lost = self.build("/contract", token=True, base=self.cell["cutBase"], reconnect=True)
        lost.start()
        before = self.call(lost, "ConnectionId")
        report(ask="cut")
        sys.stdin.readline()
        lost.reconnected.result(self.timeout)
        after = self.call(lost, "ConnectionId")
        same(after != before, True, "a new connection")
        same(self.call(lost, "Echo", "again"), "again", "Echo after the reconnect")


def main(open_connection):
    Scenario(json.loads(sys.argv[1]), open_connection).run()
    report(done=True)
    sys.stdout.flush()
