"""Starts nodes of a group, reads their logs, and ends them whatever happens.

A node's output is read by a thread of its own, so that a test can wait for a line without looking again and again,
and knows when each line came. Everything started is in `everything` until it ended.
"""
import atexit
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from client import Client

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FABLE = os.path.join(ROOT, "models", "fable")
SECRET = "only-for-tests"
START_SECONDS = 30.0  # a node that has not started by then never will
END_SECONDS = 15.0
LINES_SHOWN = 30

everything = []  # nodes that run


class Unexpected(AssertionError):
    """What was waited for did not come."""


def pleiad():
    return os.environ["PLEIAD_BINARY"]


def wait_until(condition, seconds, what, step=0.01):
    """Looks until `condition()` is true, and returns what it gave; fails naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Unexpected(f"{what}: not within {seconds:g} s")
        time.sleep(step)


def free_port():
    """A port that nobody listens at. It lies below those that the system gives to connections, so that none of
    them takes it before its server does."""
    while True:
        port = random.randint(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Node:
    """One process of `pleiad`."""

    def __init__(self, name, arguments, secret=SECRET, prefix=(), environment=None):
        self.name = name
        self.lines = []  # (time, text)
        self.changed = threading.Condition()
        self.temp = tempfile.mkdtemp(prefix="cluster-test-")
        variables = {**os.environ, "PLEIAD_CLUSTER_SECRET": secret, "TMPDIR": self.temp, **(environment or {})}
        # The kernel ends the node when the tests die, however they die.
        command = [*prefix, "setpriv", "--pdeathsig", "KILL", pleiad(), *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=variables,
        )
        everything.append(self)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append((time.monotonic(), line.rstrip("\n")))
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def mark(self):
        """Where the log stands: wait_for(..., after=mark) looks at what comes later."""
        return len(self.lines)

    def log(self):
        return "\n".join(text for _, text in self.lines)

    def find(self, pattern, after=0):
        """The first line that matches, as (time, match), or None."""
        for when, text in self.lines[after:]:
            found = re.search(pattern, text)
            if found:
                return when, found
        return None

    def wait_for(self, pattern, seconds=START_SECONDS, after=0):
        """The first line that matches, as (time, match)."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                found = self.find(pattern, after)
                if found:
                    return found
                left = end - time.monotonic()
                if left <= 0 or (not self.reader.is_alive() and not self.running()):
                    why = f"within {seconds:g} s" if left <= 0 else f"before it ended ({self.process.poll()})"
                    raise Unexpected(f"{self.name} did not say /{pattern}/ {why}")
                self.changed.wait(min(left, 0.2))

    def send(self, number):
        os.kill(self.pid, number)

    def wait_end(self, seconds=END_SECONDS):
        """Its exit code, after its last line was read."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"{self.name} did not end within {seconds:g} s") from None
        self.reader.join(END_SECONDS)
        return code

    def forget(self):
        if self in everything:
            everything.remove(self)
        shutil.rmtree(self.temp, ignore_errors=True)

    def kill(self):
        """Kills it if it still runs."""
        if self.running():
            self.process.kill()
        self.process.wait()
        self.reader.join(END_SECONDS)

    def left_behind(self):
        """Files that it left in its folder for temporary ones."""
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.temp) for name in names]

    def tail(self):
        head = f"--- {self.name} (process {self.pid}, exit {self.process.poll()}), last lines:"
        return "\n".join([head, *("    " + text for _, text in self.lines[-LINES_SHOWN:])])


def kill_everything():
    for node in list(everything):
        node.kill()
        node.forget()


atexit.register(kill_everything)


class Service:
    """A group of `nodes` nodes on this machine that serve one model over `ranks` flags.

    `places[i]` says where node i runs: a namespace of network.py, or None. `host` is node 0's address for the
    others. `join_at[i]` is another address under which node i reaches node 0 (a proxy's).
    """

    def __init__(self, model=FABLE, flags=(), nodes=1, places=None, host="127.0.0.1"):
        self.model = model
        self.flags = list(flags)
        self.count = nodes
        self.places = places or [None] * nodes
        self.host = host
        self.rendezvous = free_port()
        self.http = free_port()
        self.join_at = {}
        self.nodes = {}
        self.started = []  # also those that were replaced
        opened = self.places[0].open_socket if self.places[0] else None
        self.client = Client("127.0.0.1", self.http, opened)

    def arguments(self, rank, flags=None, model=None, nnodes=None):
        count = nnodes or self.count
        out = ["serve", model or self.model, "--threads", "1", "--kv-cache-bytes", "96mb", "--drain-timeout", "5"]
        if self.model != FABLE:
            out.append("--skip-tokenizer-init")
        out += self.flags if flags is None else flags
        if count > 1:
            address = self.join_at.get(rank, f"{self.host}:{self.rendezvous}")
            out += ["--nnodes", str(count), "--node-rank", str(rank), "--dist-init-addr", address]
        if rank == 0:
            out += ["--port", str(self.http)]
        return out

    def start_node(self, rank, **changes):
        place = self.places[rank]
        prefix = place.prefix() if place else ()
        extra = place.flags() if place else []
        arguments = self.arguments(rank) + extra
        node = Node(f"node {rank}", arguments, prefix=prefix, **changes)
        self.nodes[rank] = node
        self.started.append(node)
        return node

    def start_other(self, name, rank, secret=SECRET, **changes):
        """A node that is none of ours: not kept under its rank."""
        node = Node(name, self.arguments(rank, **changes), secret=secret)
        self.started.append(node)
        return node

    def start(self):
        for rank in range(self.count):
            self.start_node(rank)
        return self.wait_ready()

    def wait_ready(self, seconds=START_SECONDS):
        """Until /ready says 200; fails at once when a node dies."""

        def ready():
            for node in self.nodes.values():
                if not node.running():
                    raise Unexpected(f"{node.name} ended with {node.process.poll()}")
            return self.client.status("/ready") == 200

        wait_until(ready, seconds, "ready")
        return self

    def stop(self):
        """SIGTERM to all; the exit codes by rank."""
        for node in self.nodes.values():
            node.send(signal.SIGTERM)
        return {rank: node.wait_end() for rank, node in self.nodes.items()}

    def close(self):
        for node in self.started:
            node.kill()
            node.forget()

    def tails(self):
        return "\n".join(node.tail() for node in self.started)
