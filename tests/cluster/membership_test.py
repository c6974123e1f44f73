"""Who is let in, in which order nodes may come, and what strangers at the door can do."""
import os
import signal
import socket
import struct

from answers import MODELS
from case import Case
from nodes import wait_until

EXIT_SECONDS = 10.0
FLAGS = ["--ep-size", "6"]  # on 3 nodes: 2 ranks each


class Strangers:
    """Connections to the rendezvous port that say nothing, or nonsense."""

    def __init__(self, port):
        self.port = port
        self.open = []

    def connect(self):
        made = socket.create_connection(("127.0.0.1", self.port), 5)
        self.open.append(made)
        return made

    def say(self, data):
        try:
            self.connect().sendall(data)
        except OSError:
            pass  # cut off already, as it should be

    def pester(self):
        for _ in range(20):
            self.connect()
        self.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.say(os.urandom(100_000))
        self.say(b"\0" * 4096)
        self.say(struct.pack("<IIQ", 0xFFFFFFFF, 0, 1 << 62))
        self.say(b"\x01")
        for made in [self.connect() for _ in range(5)]:
            # Closed with a reset.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.close()

    def close(self):
        for made in self.open:
            made.close()


class Membership(Case):
    def strangers(self, service):
        made = Strangers(service.rendezvous)
        self.addCleanup(made.close)
        return made

    def assert_refused(self, host, node, reason):
        """`node` ends with a failure that names why and who said so; node 0 logs the same and goes on."""
        code = node.wait_end(EXIT_SECONDS)
        self.assertNotIn(code, (0, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT), node.log())
        self.assertRegex(node.log(), f"node 0 at [^ ]+ refused this node: .*{reason}")
        host.wait_for(f"127\\.0\\.0\\.1:\\d+ was refused: .*{reason}", 2.0)
        self.assertTrue(host.running())

    def test_any_order(self):
        """nodes start in any order"""
        service = self.make(MODELS["deepseek_v3"], ["--ep-size", "4"], 4)
        for rank in (2, 3, 1):
            service.start_node(rank)
            service.nodes[rank].wait_for("node 0 at ")
        service.start_node(0)
        service.wait_ready()
        self.assert_same_answers(service, "deepseek_v3")

    def test_late_node(self):
        """node 0 waits for a late node, says for whom, and is live but not ready meanwhile"""
        service = self.make(MODELS["kimi_k2"], ["--ep-size", "4"], 2)
        node = service.start_node(0)
        node.wait_for("waiting for nodes: 1")
        self.assertEqual(service.client.status("/live"), 200)
        self.assertEqual(service.client.status("/ready"), 503)
        service.start_node(1)
        service.wait_ready()
        self.assert_same_answers(service, "kimi_k2")

    def test_end_while_waiting(self):
        """nodes that wait for others end on SIGTERM"""
        service = self.make(MODELS["deepseek_v3"], FLAGS, 3)
        service.start_node(0).wait_for("waiting for nodes: 1, 2")
        service.start_node(1).wait_for("waiting for node 2")
        service.nodes[1].send(signal.SIGTERM)
        self.assertEqual(service.nodes[1].wait_end(5.0), 0)
        service.nodes[0].send(signal.SIGTERM)
        self.assertEqual(service.nodes[0].wait_end(5.0), 0)

    def test_refusals(self):
        """a node with another model, limit, secret, count or a taken rank is refused, and the rest go on"""
        service = self.make(MODELS["deepseek_v3"], FLAGS, 3)
        host = service.start_node(0)
        host.wait_for("waiting for nodes")
        service.start_node(1).wait_for("waiting for node 2")
        strangers = self.strangers(service)
        strangers.pester()
        other = service.start_other("other model", 2, model=MODELS["kimi_k2"])
        self.assert_refused(host, other, "node 2 has model [0-9a-f]+, node 0 has [0-9a-f]+")
        other = service.start_other("other limit", 2, flags=[*FLAGS, "--max-num-seqs", "17"])
        self.assert_refused(host, other, "sequences 17")
        other = service.start_other("other secret", 2, secret="another-secret")
        self.assert_refused(host, other, "cluster secret")
        other = service.start_other("other count", 1, nnodes=2)
        self.assert_refused(host, other, "nnodes|nodes")
        other = service.start_other("second node 1", 1)
        self.assert_refused(host, other, "the place of node 1 is taken by 127\\.0\\.0\\.1:")
        self.assertTrue(service.nodes[1].running())
        service.start_node(2)
        service.wait_ready()
        self.assert_same_answers(service, "deepseek_v3")
        # The door is answered while the group stands, too.
        other = service.start_other("late other model", 2, model=MODELS["kimi_k2"])
        self.assert_refused(host, other, "node 2 has model [0-9a-f]+, node 0 has [0-9a-f]+")
        self.assert_same_answers(service, "deepseek_v3")

    def test_spare_node(self):
        """a second node for a place that is held waits without harm, and takes the place when it is free"""
        service = self.make(MODELS["deepseek_v3"], ["--ep-size", "2"], 2)
        service.start()
        spare = service.start_other("spare node 1", 1)
        spare.wait_for("another holds this node's place")
        self.assert_same_answers(service, "deepseek_v3")
        service.nodes[1].kill()
        wait_until(lambda: spare.find("serving in epoch"), 10.0, "the spare node serves")
        service.nodes[1] = spare
        service.wait_ready()
        self.assert_same_answers(service, "deepseek_v3")

    def test_strangers(self):
        """garbage and silence at the rendezvous port disturb neither a forming nor a standing group"""
        service = self.make(MODELS["deepseek_v3"], ["--ep-size", "2"], 2)
        service.start_node(0).wait_for("waiting for nodes")
        strangers = self.strangers(service)
        strangers.pester()
        service.start_node(1)
        service.wait_ready()
        strangers.pester()
        self.assert_same_answers(service, "deepseek_v3")
        # A group that must form again does so past those who still hold the line.
        service.nodes[1].kill()
        wait_until(lambda: service.client.status("/ready") == 503, 5.0, "not ready")
        strangers.pester()
        service.start_node(1)
        service.wait_ready()
        self.assert_same_answers(service, "deepseek_v3")
