"""Nodes that die or stall while they work, and what clients see of it."""
import os
import random
import signal
import threading
import time

from answers import story
from case import Case, seed
from nodes import FABLE, Node, Unexpected, wait_until

STREAMS = 6
FLAGS = ["--ep-size", "4"]


def shared_segments(pids):
    """System V shared memory made by those processes."""
    with open("/proc/sysvipc/shm", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return [row[1] for row in rows if int(row[4]) in pids]


def shared_files():
    return set(os.listdir("/dev/shm"))


def in_use(name):
    """Whether a running process has the file of shared memory open or mapped."""
    wanted = f"/dev/shm/{name}"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
                if wanted in maps.read():
                    return True
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") == wanted for fd in os.listdir(f"/proc/{pid}/fd")):
                return True
        except OSError:
            continue  # it ended meanwhile
    return False


class Failure(Case):
    def group(self, nodes=2, flags=()):
        service = self.make(flags=[*FLAGS, *flags], nodes=nodes)
        service.start()
        return service

    def open_streams(self, service):
        return self.start_stories(service, [story(i) for i in range(STREAMS)])

    def assert_broken(self, service):
        """Alive, not ready, and says so to who asks."""
        wait_until(lambda: service.client.status("/ready") == 503, 2.0, "/ready says 503")
        self.assertEqual(service.client.status("/live"), 200)
        status, body = service.client.request("POST", "/v1/completions", story(1, 4))
        self.assertEqual(status, 503)
        self.assertIn("not ready", body["error"]["message"])

    def test_killed_node(self):
        """kill -9 of a node: streams end with an error within 1 s, and a restarted node joins again"""
        service = self.group()
        streams = self.open_streams(service)
        killed = time.monotonic()
        service.nodes[1].kill()
        for stream in streams:
            self.assert_failed_well(stream, 1.0, killed)
        self.assert_broken(service)
        service.start_node(1)
        service.wait_ready()
        self.assert_same_answers(service)

    def test_killed_host(self):
        """kill -9 of node 0: node 1 survives and joins again when node 0 is back"""
        service = self.group()
        streams = self.open_streams(service)
        node, mark = service.nodes[1], service.nodes[1].mark()
        service.nodes[0].kill()
        for stream in streams:
            self.assertEqual(stream.wait_end(2.0), "cut", stream.told())
            self.assertFalse(stream.done)
        node.wait_for("joining again", 2.0, mark)
        self.assertTrue(node.running())
        service.start_node(0)
        service.wait_ready()
        self.assert_same_answers(service)
        self.assertTrue(node.running())

    def test_killed_while_idle(self):
        """a node that dies while nothing is asked is noticed as fast, again and again"""
        service = self.group(4)
        for rank in (1, 3, 2):
            service.nodes[rank].kill()
            self.assert_broken(service)
            service.start_node(rank)
            service.wait_ready()
        self.assert_same_answers(service)

    def test_random_kills(self):
        """nodes killed at random moments, two at once too: no stream ends as if all were well, no answer differs"""
        draw = random.Random(seed())
        service = self.group(4)
        for _ in range(4):
            streams = self.start_stories(service, [story(i) for i in range(STREAMS)], draw.randint(0, 30))
            for rank in draw.sample([1, 2, 3], draw.randint(1, 2)):
                service.nodes[rank].kill()
                service.start_node(rank)
            for stream in streams:
                self.assert_failed_well(stream)
            service.wait_ready()
        self.assert_same_answers(service)

    def test_killed_while_forming(self):
        """a node that dies in the moment when the group forms for the first time does not end node 0"""
        for moment in (0.0, 0.005, 0.01, 0.02, 0.04, 0.08):
            service = self.make(flags=FLAGS, nodes=2)
            host = service.start_node(0)
            host.wait_for("waiting for nodes: 1")
            service.start_node(1)
            host.wait_for("is there")
            time.sleep(moment)  # what is varied, not what is waited for
            service.nodes[1].kill()
            service.start_node(1)
            self.wait_ready_past_ucx(service)
            service.close()

    def wait_ready_past_ucx(self, service):
        """UCX 1.13 aborts the process when a peer dies within milliseconds of its handshake (about one kill in 15
        of those above). That is told, and a restarted node 0 must heal it; any other end of node 0 is a failure."""
        host = service.nodes[0]
        try:
            service.wait_ready()
        except Unexpected:
            if host.running() or not host.find("(wireup_ep|tcp_ep|tcp_cm)\\.c:\\d+ +Assertion"):
                raise
            print(f"      UCX aborted node 0: {host.find('Assertion.*')[1].group(0)}", flush=True)
            self.assertEqual(host.wait_end(), -signal.SIGABRT)
            service.start_node(0)
            service.wait_ready()

    def test_client_leaves(self):
        """clients that go away free their places on every node"""
        service = self.group()
        streams = self.open_streams(service)
        for stream in streams:
            stream.leave()
        wait_until(lambda: service.client.request("GET", "/ready")[1]["running"] == 0, 3.0, "nothing runs")
        self.assert_same_answers(service)

    def stall(self, stopped, steady):
        service = self.group(flags=["--step-timeout", "2"])
        streams = self.open_streams(service)
        node, mark = service.nodes[stopped], service.nodes[steady].mark()
        began = time.monotonic()
        node.send(signal.SIGSTOP)
        resume = threading.Timer(9.0, lambda: node.running() and node.send(signal.SIGCONT))
        self.addCleanup(resume.cancel)
        resume.start()
        return service, streams, mark, began

    def test_stalled_node(self):
        """a node that stalls: streams end with an error within the limit; when it goes on, the group forms again"""
        service, streams, _, began = self.stall(1, 0)
        for stream in streams:
            self.assert_failed_well(stream, 4.0, began)
            self.assertRegex(stream.error[1]["message"], "rank|node")
        self.assert_broken(service)
        service.nodes[1].send(signal.SIGCONT)
        service.wait_ready()
        self.assert_same_answers(service)

    def test_stalled_host(self):
        """a node 0 that stalls: node 1 gives up within the limit; when it goes on, streams fail and all is well again"""
        service, streams, mark, _ = self.stall(0, 1)
        service.nodes[1].wait_for("joining again", 8.0, mark)
        service.nodes[0].send(signal.SIGCONT)
        for stream in streams:
            self.assert_failed_well(stream)
        wait_until(lambda: service.nodes[1].find("serving in epoch", mark), 10.0, "node 1 serves again")
        service.wait_ready()
        self.assert_same_answers(service)

    def test_nothing_is_left(self):
        """SIGTERM of everything exits 0 and leaves no process, shared memory or temporary file, after kills too"""
        before = shared_files()
        service = self.group(4)
        self.start_stories(service, [story(9)])
        service.nodes[2].kill()
        service.start_node(2)
        service.wait_ready()
        self.assert_same_answers(service)
        self.assertEqual(set(service.stop().values()), {0}, "exit codes")
        pids = {node.pid for node in service.started}
        self.assertEqual(shared_segments(pids), [], "shared segments")
        self.assertEqual([name for name in shared_files() - before if not in_use(name)], [], "/dev/shm")
        self.assertEqual([path for node in service.started for path in node.left_behind()], [], "temporary files")
        self.assertFalse([pid for pid in pids if os.path.exists(f"/proc/{pid}")], "processes")

    def test_drain(self):
        """SIGTERM of node 0 lets an open stream end well"""
        service = self.group()
        stream = self.start_stories(service, [story(3, 150)])[0]
        service.nodes[0].send(signal.SIGTERM)
        self.assertEqual(stream.wait_end(), "clean", stream.told())
        self.assertTrue(stream.done, stream.told())
        self.assertEqual(len(stream.token_ids()), 150)
        self.assertEqual(service.nodes[0].wait_end(), 0)


class Flags(Case):
    def assert_refused(self, arguments, pattern, environment=None):
        node = Node("pleiad", ["serve", *arguments], **(environment or {}))
        self.addCleanup(node.kill)
        self.assertNotEqual(node.wait_end(), 0)
        self.assertRegex(node.log(), pattern)

    def test_flags(self):
        """a group without address, secret or a possible layout is refused before anything is loaded"""
        two = [FABLE, "--ep-size", "4", "--nnodes", "2"]
        self.assert_refused(two, "needs --dist-init-addr")
        self.assert_refused(
            [*two, "--dist-init-addr", "127.0.0.1:9"], "PLEIAD_CLUSTER_SECRET", {"secret": ""}
        )
        self.assert_refused([FABLE, "--ep-size", "4", "--nnodes", "3"], "4 ranks .* 3 nodes; nearest valid")
        self.assert_refused([*two, "--node-rank", "2"], "node_rank is 2; .*nearest valid value 1")
