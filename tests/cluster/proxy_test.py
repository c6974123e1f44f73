"""Slow, choppy, cutting and lying connections between a node and node 0's rendezvous port."""
import time

from answers import story
from case import Case
from nodes import wait_until
from proxy import Proxy

FLAGS = ["--ep-size", "4"]
SILENT_SECONDS = 8.0  # the link's limit is 5


class Connections(Case):
    def behind_proxy(self, start=True):
        service = self.make(flags=FLAGS, nodes=2)
        proxy = Proxy(service.rendezvous)
        self.addCleanup(proxy.close)
        service.join_at[1] = proxy.address
        if start:
            service.start()
        return service, proxy

    def test_single_bytes(self):
        """a connection that brings one byte at a time"""
        service, proxy = self.behind_proxy(start=False)
        proxy.piece = 1
        service.start()
        self.assert_same_answers(service)

    def test_delay(self):
        """a connection with a delay of 50 ms before each piece"""
        service, proxy = self.behind_proxy(start=False)
        proxy.pause = 0.05
        service.start()
        self.assert_same_answers(service)

    def test_throttle(self):
        """a connection of about 50 kB/s"""
        service, proxy = self.behind_proxy(start=False)
        proxy.piece, proxy.pause = 500, 0.01
        service.start()
        self.assert_same_answers(service)

    def test_cuts(self):
        """a connection that is cut at six places of the handshake: the node tries until it is let through"""
        service, proxy = self.behind_proxy(start=False)
        cuts = [1, 30, 90, 150, 300, 500]
        proxy.cuts = list(cuts)
        service.start()
        self.assertGreater(proxy.connections, len(cuts))
        self.assert_same_answers(service)

    def test_cut_while_working(self):
        """a connection that is cut while streams run: errors at once, then the group forms again"""
        service, proxy = self.behind_proxy()
        streams = self.start_stories(service, [story(i) for i in range(4)])
        began = time.monotonic()
        proxy.cut_all()
        for stream in streams:
            self.assert_failed_well(stream, 1.0, began)
        service.wait_ready()
        self.assert_same_answers(service)

    def test_silence(self):
        """a connection that goes silent while streams run: errors within the limit, then the group forms again"""
        service, proxy = self.behind_proxy()
        streams = self.start_stories(service, [story(i, 3500) for i in range(4)])
        mark = service.nodes[0].mark()
        proxy.flowing.clear()
        service.nodes[0].wait_for("epoch \\d+ ends: .*heard nothing for", SILENT_SECONDS, mark)
        # Those that were short enough may have ended on node 0's own ranks.
        for stream in streams:
            if stream.wait_end(2.0) != "clean":
                self.assert_failed_well(stream)
        wait_until(lambda: service.client.status("/ready") == 503, 2.0, "/ready says 503")
        proxy.cut_all()
        proxy.flowing.set()
        service.wait_ready()
        self.assert_same_answers(service)

    def test_lies(self):
        """a changed byte breaks the group with an error, and never changes an answer"""
        service, proxy = self.behind_proxy()
        bodies = [story(i) for i in range(4)]
        streams = self.start_stories(service, bodies)
        proxy.spoil_next = True
        for stream in streams:
            self.assert_failed_well(stream)
        service.wait_ready()
        for stream, body in zip(streams, bodies):
            tokens = stream.token_ids()
            again = service.client.stream({**body, "max_tokens": len(tokens)})
            self.assertEqual(again.wait_end(), "clean", again.told())
            self.assertEqual(again.token_ids(), tokens)
        self.assert_same_answers(service)
