"""A router in front of workers: the answers of one worker, whatever happens to the others."""
import random
import signal
import threading

from answers import ask_all, difference, make_requests
from case import seed
from client import Client
from nodes import FABLE, Node, free_port, wait_until
from routed import SECONDS, RoutedCase

LAYOUTS = [["--ep-size", "1"], ["--ep-size", "2"], ["--ep-size", "2", "--tp-size", "2"]]
TOKENS = 250  # long enough to be hit in the middle
REQUESTS = 12


class Routed(RoutedCase):
    def test_same_answers(self):
        """a router over workers of three layouts answers like one worker, under every policy"""
        workers = self.start_workers(LAYOUTS)
        bodies = make_requests("fable", 24)
        wanted = [ask_all(workers[0].client, [body])[0] for body in bodies]
        for policy in ["cache_aware", "power_of_two", "round_robin"]:
            self.start_router(workers, ["--policy", policy])
            self.assertEqual(difference(wanted, ask_all(self.client, bodies)), "", policy)
            self.assertEqual(self.metric("pleiad_router_replays_total"), 0)
            self.router.send(signal.SIGTERM)
            self.assertEqual(self.router.wait_end(), 0)

    def test_killed_workers(self):
        """kill -9 and SIGSTOP of workers while they answer: every answer is exact, and nothing stays held"""
        draw = random.Random(seed())
        workers = self.start_workers(LAYOUTS)
        bodies = make_requests("fable", REQUESTS, TOKENS)
        wanted = [ask_all(workers[0].client, [body])[0] for body in bodies]
        self.start_router(workers)
        for turn in range(4):
            victim = workers[turn % len(workers)]
            frozen = turn == 3

            def trouble(victim=victim, frozen=frozen):
                threading.Event().wait(draw.random() * 0.2)  # at any moment of the work
                if frozen:
                    victim.nodes[0].send(signal.SIGSTOP)
                else:
                    victim.nodes[0].kill()

            self.assertEqual(difference(wanted, self.during(bodies, trouble)), "", f"turn {turn}")
            if frozen:
                victim.nodes[0].send(signal.SIGCONT)
            else:
                victim.start_node(0)
                victim.wait_ready()
            wait_until(lambda: self.ready_workers() == len(workers), SECONDS, "all workers are ready again")
        self.assertGreater(self.metric("pleiad_router_replays_total"), 0)
        self.assertEqual(self.metric("pleiad_router_open_requests"), 0)
        for worker in workers:
            self.wait_nothing_held(worker)

    def test_drained_worker(self):
        """SIGTERM of a worker under load: its requests end there or go on elsewhere, and none fails"""
        workers = self.start_workers(LAYOUTS[:2])
        bodies = make_requests("fable", REQUESTS, TOKENS)
        wanted = [ask_all(workers[0].client, [body])[0] for body in bodies]
        self.start_router(workers)
        answers = self.during(bodies, lambda: workers[1].nodes[0].send(signal.SIGTERM))
        self.assertEqual(difference(wanted, answers), "")
        self.assertEqual(workers[1].nodes[0].wait_end(), 0)
        wait_until(lambda: self.ready_workers() == 1, SECONDS, "one worker is left")

    def test_strangers(self):
        """workers with another secret or another model are named, and get no requests"""
        good = self.start_workers(LAYOUTS[:1])[0]
        other = self.make(FABLE, ["--dtype", "float32"])
        other.start()
        secretive = self.make(FABLE)
        secretive.start_node(0, secret="another")
        secretive.wait_ready()
        self.start_router([good])
        self.router.kill()
        port = free_port()
        urls = [f"http://127.0.0.1:{worker.http}" for worker in (good, other, secretive)]
        self.router = Node("router", ["route", FABLE, "--port", str(port), "--worker-urls", *urls])
        self.addCleanup(self.router.kill)
        self.client = Client("127.0.0.1", port)
        self.router.wait_for(r"is refused: compute bfloat16( \(\S+\))? here, float32 there|is refused: compute float32( \(\S+\))? here")
        self.router.wait_for(r"is down: the worker knows another secret")
        wait_until(lambda: self.ready_workers() == 1, SECONDS, "one worker fits")
