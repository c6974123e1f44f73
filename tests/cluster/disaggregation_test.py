"""Prompts computed by some workers and gone on with by others: the answers of one worker, whatever happens."""
import os
import random
import signal
import threading

from answers import ask_all, difference
from case import seed
from client import Client
from nodes import FABLE, Node, free_port, wait_until
from routed import SECONDS, RoutedCase

TOKENS = 12
REQUESTS = 16


def prompts(count, longest=900, tokens=TOKENS):
    """Requests with prompts of all lengths, some of which begin alike."""
    draw = random.Random(f"{count} {longest}")
    shared = [draw.randrange(6, 4096) for _ in range(longest)]
    out = []
    for i in range(count):
        length = draw.randrange(40, longest)
        common = draw.choice([0, 0, min(length, 200)])
        out.append(
            {
                "prompt": shared[:common] + [draw.randrange(6, 4096) for _ in range(length - common)],
                "max_tokens": tokens,
                "temperature": [0, 0.8][i % 2],
                "seed": i,
                "logprobs": 3,
                "ignore_eos": True,
                "return_token_ids": True,
                "return_tokens_as_token_ids": True,
            }
        )
    return out


class Disaggregation(RoutedCase):
    def start_role(self, role, layouts):
        workers = [self.make(FABLE, ["--disaggregation-mode", role, *flags]) for flags in layouts]
        for worker in workers:
            worker.start()
        return workers

    def start_pairs(self, prefill, decode, flags=()):
        self.prefill = self.start_role("prefill", prefill)
        self.decode = self.start_role("decode", decode)
        port = free_port()
        arguments = ["route", FABLE, "--port", str(port), "--drain-timeout", "5", "--prefill-threshold", "32", *flags]
        for role, workers in (("--prefill", self.prefill), ("--decode", self.decode)):
            arguments += [role, *[f"http://127.0.0.1:{worker.http}" for worker in workers]]
        self.router = Node("router", arguments)
        self.addCleanup(self.router.forget)
        self.addCleanup(self.router.kill)
        self.client = Client("127.0.0.1", port)
        count = len(self.prefill) + len(self.decode)
        wait_until(lambda: self.ready_workers() == count, SECONDS, "all workers are ready")

    def expected(self, bodies):
        """The answers of one worker that does everything."""
        alone = self.make(FABLE)
        alone.start()
        answers = [ask_all(alone.client, [body])[0] for body in bodies]
        alone.close()
        return answers

    @staticmethod
    def worker_metric(worker, name):
        _, text = worker.client.request("GET", "/metrics")
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + "{"))

    def wait_no_holds(self):
        for worker in self.prefill + self.decode:
            self.wait_nothing_held(worker)
            wait_until(lambda w=worker: self.worker_metric(w, "pleiad_kv_holds") == 0, SECONDS, "no hold is left")

    def test_same_answers(self):
        """prefill and decode workers of different layouts answer like one worker, in shared memory and over TCP"""
        bodies = prompts(REQUESTS)
        wanted = self.expected(bodies)
        before = set(os.listdir("/dev/shm"))
        for how in ("auto", "tcp"):
            layouts = [["--tp-size", "2"], ["--ep-size", "2"]]
            decode = [[*flags, "--disaggregation-transfer-backend", how] for flags in [["--ep-size", "4"], []]]
            self.start_pairs(layouts, decode)
            self.assertEqual(difference(wanted, ask_all(self.client, bodies)), "", how)
            self.assertGreaterEqual(self.metric("pleiad_router_hand_overs_total"), REQUESTS / 2)
            self.assertEqual(self.metric("pleiad_router_prefill_losses_total"), 0)
            self.assertEqual(self.metric("pleiad_router_replays_total"), 0)
            self.wait_no_holds()
            sent = sum(self.worker_metric(w, "pleiad_kv_transfer_bytes_total") for w in self.prefill)
            received = sum(self.worker_metric(w, "pleiad_kv_transfer_bytes_total") for w in self.decode)
            self.assertGreater(sent, 0)
            self.assertEqual(sent, received)
            self.router.kill()
            for worker in self.prefill + self.decode:
                worker.close()
        self.assertEqual(set(os.listdir("/dev/shm")) - before, set(), "left behind in shared memory")

    def test_killed_workers(self):
        """kill -9 and SIGSTOP of prefill and decode workers at any moment: every answer is exact, nothing stays held"""
        draw = random.Random(seed())
        bodies = prompts(REQUESTS, tokens=60)
        wanted = self.expected(bodies)
        tcp = ["--disaggregation-transfer-backend", "tcp"]
        self.start_pairs([[], ["--ep-size", "2"]], [["--tp-size", "2"], tcp])
        for turn in range(8):
            victim = (self.prefill if turn % 2 == 0 else self.decode)[turn // 2 % 2]
            frozen = turn >= 6

            def trouble(victim=victim, frozen=frozen):
                threading.Event().wait(draw.random() * 0.6)  # at any moment of the work
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
            wait_until(lambda: self.ready_workers() == 4, SECONDS, "all workers are ready again")
        troubles = self.metric("pleiad_router_prefill_losses_total") + self.metric("pleiad_router_replays_total")
        self.assertGreater(troubles, 0)
        self.assertEqual(self.metric("pleiad_router_open_requests"), 0)
        self.wait_no_holds()

    def test_without_prefill(self):
        """with every prefill worker gone the decode workers answer alone, as exactly"""
        bodies = prompts(8)
        wanted = self.expected(bodies)
        self.start_pairs([[]], [[]])
        self.prefill[0].nodes[0].kill()
        self.assertEqual(difference(wanted, ask_all(self.client, bodies)), "")
        wait_until(lambda: self.ready_workers() == 1, SECONDS, "one worker is left")
        self.assertEqual(difference(wanted, ask_all(self.client, bodies)), "")

    def test_clients_that_leave(self):
        """clients that hang up in any phase leave nothing held, on either side"""
        draw = random.Random(seed())
        self.start_pairs([[]], [[]])
        for _ in range(20):
            body = prompts(20, 1500, 200)[draw.randrange(20)]
            stream = self.client.stream({**body, "prompt": [draw.randrange(6, 4096) for _ in body["prompt"]]})
            threading.Event().wait(draw.random() * 0.3)
            stream.leave()
            stream.wait_end()
        wait_until(lambda: self.metric("pleiad_router_open_requests") == 0, SECONDS, "nothing is open")
        self.wait_no_holds()
        self.assertEqual(self.worker_metric(self.prefill[0], "pleiad_kv_hold_expired_total"), 0)

    def test_workers_that_do_not_fit(self):
        """workers of another role, arithmetic or secret are refused by name, and pairs by both values"""
        self.start_pairs([[]], [[]])
        self.router.kill()
        plain = self.make(FABLE)
        plain.start()
        other = self.make(FABLE, ["--disaggregation-mode", "prefill", "--dtype", "float32"])
        other.start()
        decode = f"http://127.0.0.1:{self.decode[0].http}"
        urls = [f"http://127.0.0.1:{worker.http}" for worker in (plain, other)]
        arguments = ["route", FABLE, "--port", str(free_port()), "--decode", decode, "--prefill", *urls]
        router = Node("another router", arguments)
        self.addCleanup(router.forget)
        self.addCleanup(router.kill)
        router.wait_for(r"is refused: --disaggregation-mode prefill is wanted, the worker's is both")
        router.wait_for(r"is refused: compute \S+( \(\S+\))? here, \S+( \(\S+\))? there")

    def test_refusals(self):
        """a role without a secret, over several nodes, or unknown ends in one line"""
        cases = [
            (["--disaggregation-mode", "prefill"], "", "needs the cluster's secret"),
            (["--role", "decode", "--nnodes", "2"], "x", "use --nnodes 1"),
            (["--role", "encode"], "x", "not one of both, prefill, decode"),
        ]
        for flags, secret, words in cases:
            node = Node("refused", ["serve", FABLE, *flags], secret=secret)
            self.addCleanup(node.forget)
            node.wait_for(words)
            self.assertNotEqual(node.wait_end(), 0)
