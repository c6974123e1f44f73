"""A group over two hosts, and what happens when the network between them does."""
import os
import threading
import time

from answers import story
from bad_line import worn_line
from case import Case, seed
from network import TwoHosts
from nodes import wait_until

STREAMS = 4
STEP_SECONDS = 3
# A silent peer is given up after the step's limit, or the link's 5 s when nothing is computed.
NOTICED_SECONDS = 7.0


class Networked(Case):
    def setUp(self):
        super().setUp()
        if os.environ.get("PLEIAD_NO_NETNS") == "1":
            self.skipTest("PLEIAD_NO_NETNS=1")


class Network(Networked):
    def setUp(self):
        super().setUp()
        self.net = TwoHosts()
        self.addCleanup(self.net.close)
        self.service = self.make(
            flags=["--ep-size", "4", "--step-timeout", str(STEP_SECONDS)],
            nodes=2,
            places=self.net.hosts,
            host=self.net.hosts[0].address,
        )
        # Added last, so that it is done first: nodes end before their network.
        self.addCleanup(self.service.close)
        self.service.start()

    def assert_right_or_failed_well(self, streams, bodies):
        """Each stream gave all its tokens, the right ones, or ended with an error."""
        for stream in streams:
            if stream.wait_end() == "clean":
                self.assertTrue(stream.done)
            else:
                self.assert_failed_well(stream)
        self.service.wait_ready()
        repeated = [self.service.client.stream(body) for body in bodies]
        for stream, again in zip(streams, repeated):
            self.assertEqual(again.wait_end(), "clean", again.told())
            tokens = stream.token_ids()
            self.assertEqual(again.token_ids()[: len(tokens)], tokens, "what came before the failure")

    def outage(self, begin, end, seconds):
        bodies = [story(i, 250) for i in range(STREAMS)]
        streams = self.start_stories(self.service, bodies)
        over = threading.Event()
        begin()
        timer = threading.Timer(seconds, lambda: (end(), over.set()))
        timer.start()
        self.addCleanup(timer.cancel)
        self.assertTrue(over.wait(seconds + 10.0))
        self.assert_right_or_failed_well(streams, bodies)
        self.assert_same_answers(self.service)

    def lasting(self, begin, end):
        streams = self.start_stories(self.service, [story(i) for i in range(STREAMS)])
        began = time.monotonic()
        begin()
        for stream in streams:
            self.assert_failed_well(stream, NOTICED_SECONDS, began)
        wait_until(lambda: self.service.client.status("/ready") == 503, 2.0, "/ready says 503")
        self.assertEqual(self.service.client.status("/live"), 200)
        self.service.nodes[1].wait_for("joining again", NOTICED_SECONDS)
        end()
        self.service.wait_ready()
        self.assert_same_answers(self.service)

    def test_two_hosts(self):
        """a group over two hosts answers as one rank does, and ends on SIGTERM"""
        self.assert_same_answers(self.service)
        self.assertEqual(set(self.service.stop().values()), {0})

    def test_short_silence(self):
        """a network that swallows everything for 0.7 s: streams go on right, or end with an error"""
        self.outage(lambda: self.net.forward(False), lambda: self.net.forward(True), 0.7)

    def test_short_unplugging(self):
        """a host unplugged for 0.7 s: streams go on right, or end with an error"""
        self.outage(lambda: self.net.unplug(1), lambda: self.net.plug_in(1), 0.7)

    def test_silence(self):
        """a network that swallows everything: errors within the limits, and all is well once it is back"""
        self.lasting(lambda: self.net.forward(False), lambda: self.net.forward(True))

    def test_unplugged(self):
        """a host unplugged: errors within the limits, and all is well once it is back"""
        self.lasting(lambda: self.net.unplug(1), lambda: self.net.plug_in(1))

    def test_silence_while_idle(self):
        """a network that is gone while nothing is asked is noticed, and nobody is left hanging"""
        self.net.forward(False)
        wait_until(lambda: self.service.client.status("/ready") == 503, NOTICED_SECONDS, "/ready says 503")
        self.net.forward(True)
        self.service.wait_ready()
        self.assert_same_answers(self.service, count=4)


class WornLine(Networked):
    def test_worn_line(self):
        """a line between two hosts that loses, repeats, delays, reorders and spoils packets: the same answers, slower"""
        line = worn_line(seed())
        self.addCleanup(line.close)
        service = self.make(flags=["--ep-size", "4"], nodes=2, places=line.hosts, host=line.hosts[0].address)
        self.addCleanup(service.close)
        service.start()
        self.assert_same_answers(service)
        self.assertGreater(line.passed, 1000, "packets between the hosts")
        self.assertEqual(set(service.stop().values()), {0})
