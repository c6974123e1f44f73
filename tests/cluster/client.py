"""HTTP and server-sent events as a client sees them, cuts included."""
import http.client
import json
import socket
import threading
import time

SECONDS = 30.0  # longest silence of a server


class Connection(http.client.HTTPConnection):
    def __init__(self, host, port, opened):
        super().__init__(host, port, timeout=SECONDS)
        self.opened = opened

    def connect(self):
        if self.opened is None:
            super().connect()
            return
        # The socket belongs to the network that it was made in, not to who uses it.
        self.sock = self.opened()
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))


class Stream:
    """A streamed completion, read by a thread of its own."""

    def __init__(self, connection, path, body):
        self.connection = connection
        self.events = []  # (time, object)
        self.error = None  # the error object, and when it came
        self.done = False  # [DONE] came
        self.ending = None  # "clean", "cut" or "refused", and when
        self.status = None
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, args=(path, body), daemon=True)
        self.thread.start()

    def _run(self, path, body):
        ending = "cut"
        try:
            self.connection.request(
                "POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"}
            )
            response = self.connection.getresponse()
            self.status = response.status
            if response.status == 200:
                self._read(response)
                ending = "clean"
            else:
                self.error = (time.monotonic(), json.loads(response.read()).get("error"))
                ending = "refused"
        except (OSError, http.client.HTTPException):
            pass
        finally:
            self.connection.close()
        with self.changed:
            self.ending = (time.monotonic(), ending)
            self.changed.notify_all()

    def _read(self, response):
        rest = b""
        # A cut connection raises here; an empty answer is the end that HTTP knows.
        while data := response.read1(1 << 16):
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                if event.startswith(b"data: "):
                    self._take(event[len(b"data: ") :].decode())

    def _take(self, text):
        now = time.monotonic()
        with self.changed:
            if text == "[DONE]":
                self.done = True
            else:
                event = json.loads(text, parse_float=str)
                if "error" in event:
                    self.error = (now, event["error"])
                else:
                    self.events.append((now, event))
            self.changed.notify_all()

    def wait_events(self, count, seconds=SECONDS):
        end = time.monotonic() + seconds
        with self.changed:
            while len(self.events) < count and self.ending is None:
                if not self.changed.wait(end - time.monotonic()):
                    break
        assert len(self.events) >= count, f"{len(self.events)} events, {count} wanted: {self.told()}"

    def leave(self):
        """Hangs up."""
        made = self.connection.sock
        if made is not None:
            made.shutdown(socket.SHUT_RDWR)

    def wait_end(self, seconds=SECONDS):
        """Returns how it ended; fails when it hangs."""
        self.thread.join(seconds)
        assert self.ending is not None, f"a stream neither goes on nor ends within {seconds:g} s: {self.told()}"
        return self.ending[1]

    def token_ids(self):
        return [t for _, event in self.events for choice in event["choices"] for t in choice.get("token_ids") or []]

    def told(self):
        return f"{len(self.events)} events, error {self.error}, done {self.done}, ending {self.ending}"


class Client:
    """Of the server at a port. `opened` makes its sockets, where they are not to be of this process's network."""

    def __init__(self, host, port, opened=None):
        self.host = host
        self.port = port
        self.opened = opened

    def connection(self):
        return Connection(self.host, self.port, self.opened)

    def request(self, method, path, body=None):
        """(status, decoded body); numbers with a point stay text, so that nothing is rounded."""
        status, _, answer = self.ask(method, path, body)
        return status, answer

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, decoded body)."""
        connection = self.connection()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        return response.status, response.headers, json.loads(text, parse_float=str) if text.startswith("{") else text

    def status(self, path):
        """The status of a GET, or 0 when nobody answers."""
        try:
            return self.request("GET", path)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def stream(self, body, path="/v1/completions"):
        return Stream(self.connection(), path, body)
