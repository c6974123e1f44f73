"""What operators do with a router that runs: workers that come and go by themselves, drains, limits, other rules."""
import hashlib
import os
import signal
import tempfile
import threading

from answers import ask_all, difference, make_requests
from case import Case
from client import Client
from nodes import FABLE, Node, free_port, wait_until

SECONDS = 60.0
ADMIN = {"Authorization": "Bearer sk-admin"}
TOKENS = 250  # long enough to be hit in the middle


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


class Operated(Case):
    def start_router(self, flags=(), port=None):
        self.port = port or free_port()
        arguments = ["route", FABLE, "--port", str(self.port), "--drain-timeout", "5", *flags]
        self.router = Node("router", arguments, environment={"PLEIAD_ADMIN_KEY": "sk-admin"})
        self.addCleanup(self.router.forget)
        self.addCleanup(self.router.kill)
        self.client = Client("127.0.0.1", self.port)
        self.router.wait_for("listening on")

    def start_workers(self, count, flags=()):
        register = ["--register", f"http://127.0.0.1:{self.port}", *flags]
        workers = [self.make(FABLE, register) for _ in range(count)]
        for worker in workers:
            worker.start()
        return workers

    def logs(self):
        return super().logs() + "\n" + self.router.tail()

    def workers(self):
        """By URL."""
        status, _, body = self.client.ask("GET", "/workers", headers=ADMIN)
        self.assertEqual(status, 200, body)
        return {worker["url"]: worker for worker in body["workers"]}

    def states(self):
        return sorted(worker["state"] for worker in self.workers().values())

    def wait_states(self, *states):
        def reached():
            try:
                return self.states() == sorted(states)
            except OSError:
                return False

        wait_until(reached, SECONDS, f"workers are {states}")

    def metric(self, name, headers=None):
        _, _, text = self.client.ask("GET", "/metrics", headers=headers)
        found = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(found[0].split()[1]) if found else 0.0

    def complete(self, headers=None, **members):
        return self.client.ask("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 4, **members}, headers)

    def policy_file(self, text):
        if not hasattr(self, "policy"):
            handle, self.policy = tempfile.mkstemp(suffix=".yaml")
            os.close(handle)
            self.addCleanup(os.remove, self.policy)
        with open(self.policy, "w", encoding="utf-8") as out:
            out.write(text)
        return self.policy

    def test_workers_come_and_go(self):
        """workers register by themselves, with a restarted router too; those that go or die are removed"""
        self.start_router()
        self.assertEqual(self.client.status("/ready"), 503)
        self.assertEqual(self.client.status("/health"), 200)
        workers = self.start_workers(3)
        self.wait_states("ready", "ready", "ready")
        bodies = make_requests("fable", 12)
        wanted = [ask_all(workers[0].client, [body])[0] for body in bodies]
        self.assertEqual(difference(wanted, ask_all(self.client, bodies)), "")

        self.router.kill()
        self.start_router(port=self.port)
        self.wait_states("ready", "ready", "ready")
        self.assertEqual(difference(wanted, ask_all(self.client, bodies)), "")

        workers[0].nodes[0].send(signal.SIGTERM)
        self.assertEqual(workers[0].nodes[0].wait_end(), 0)
        self.wait_states("ready", "ready")
        workers[1].nodes[0].kill()
        self.wait_states("down", "ready")
        self.wait_states("ready")
        workers[1].start_node(0)
        self.wait_states("ready", "ready")
        self.assertEqual(difference(wanted, ask_all(self.client, bodies)), "")
        self.assertEqual(self.metric("pleiad_router_registered_workers"), 2)

    def test_drained_by_an_operator(self):
        """a worker that is drained, taken back and removed while it answers: every answer is exact"""
        self.start_router()
        workers = self.start_workers(2)
        self.wait_states("ready", "ready")
        bodies = make_requests("fable", 12, TOKENS)
        wanted = [ask_all(workers[0].client, [body])[0] for body in bodies]
        victim = {"url": f"http://127.0.0.1:{workers[0].http}"}
        answers = []
        thread = threading.Thread(target=lambda: answers.extend(ask_all(self.client, bodies)), daemon=True)
        thread.start()
        wait_until(lambda: self.metric("pleiad_router_open_requests") >= 6, SECONDS, "requests run")
        self.assertEqual(self.client.ask("POST", "/workers/drain", victim, ADMIN)[0], 200)
        self.assertEqual(self.states(), ["draining", "ready"])
        for _ in range(3):
            _, headers, _ = self.complete()
            self.assertIn(f":{workers[1].http};", headers["x-served-by"])
        self.assertEqual(self.client.ask("POST", "/workers/undrain", victim, ADMIN)[0], 200)
        self.assertEqual(self.states(), ["ready", "ready"])
        self.assertEqual(self.client.ask("DELETE", "/workers", victim, ADMIN)[0], 200)
        thread.join(SECONDS)
        self.assertEqual(difference(wanted, answers), "")
        workers[0].nodes[0].wait_for("an operator removed")
        self.assertEqual(self.states(), ["ready"])
        self.assertEqual(self.client.ask("POST", "/workers", victim, ADMIN)[0], 200)
        self.wait_states("ready", "ready")

    def test_explained(self):
        """/route/explain names the worker that the next request of the same prompt goes to"""
        self.start_router()
        self.start_workers(2)
        self.wait_states("ready", "ready")
        prompt = {"prompt": "Once upon a time there was a fox. " * 20, "max_tokens": 1}
        _, headers, _ = self.client.ask("POST", "/v1/completions", prompt)
        _, _, why = self.client.ask("POST", "/route/explain", prompt, ADMIN)
        self.assertEqual(why["choice"]["reason"], "cached")
        self.assertGreater(why["choice"]["cached_tokens"], 0)
        self.assertTrue(headers["x-served-by"].startswith(why["choice"]["worker"]))
        _, headers, _ = self.client.ask("POST", "/v1/completions", prompt)
        self.assertEqual(int(headers["x-cached-tokens"]), why["choice"]["cached_tokens"])

    def test_pairs(self):
        """prefill and decode workers that register are paired, as explained, from the policy file's threshold on"""
        self.start_router(["--policy-file", self.policy_file("prefill_threshold: 100\n")])
        self.start_workers(1, ["--disaggregation-mode", "prefill"])
        self.start_workers(1, ["--disaggregation-mode", "decode"])
        self.wait_states("ready", "ready")
        roles = {worker["role"]: url for url, worker in self.workers().items()}
        self.assertEqual(sorted(roles), ["decode", "prefill"])
        prompt = {"prompt": "Once upon a time there was a fox. " * 20, "max_tokens": 3}
        _, _, why = self.client.ask("POST", "/route/explain", prompt, ADMIN)
        self.assertEqual((why["choice"]["worker"], why["prefill"]["worker"]), (roles["decode"], roles["prefill"]))
        _, headers, _ = self.client.ask("POST", "/v1/completions", prompt)
        served = f"{roles['decode']};dp_rank=0;prefill={roles['prefill']};prefill_dp_rank=0"
        self.assertEqual(headers["x-served-by"], served)
        mark = self.router.mark()
        self.policy_file("prefill_threshold: 100000\n")
        self.router.wait_for("is in force", after=mark)
        other = {"prompt": "A wolf came by and asked for the way. " * 20, "max_tokens": 3}
        _, _, why = self.client.ask("POST", "/route/explain", other, ADMIN)
        self.assertIsNone(why["prefill"])
        self.assertIn("from 100000 on", why["why_no_prefill"])
        _, headers, _ = self.client.ask("POST", "/v1/completions", other)
        self.assertNotIn("prefill", headers["x-served-by"])

    def test_limits_and_other_rules(self):
        """limits by key are kept, other rules come into force without a restart, and bad ones never"""
        team = {"Authorization": "Bearer sk-team"}
        keys = f"keys:\n  - name: team\n    sha256: {digest('sk-team')}\n"
        self.start_router(["--policy-file", self.policy_file(keys + "    requests_per_minute: 2\n")])
        self.start_workers(1)
        wait_until(lambda: self.client.status("/ready") == 200, SECONDS, "ready")
        self.assertEqual(self.complete()[0], 401)
        self.assertEqual([self.complete(team)[0] for _ in range(2)], [200, 200])
        status, headers, body = self.complete(team)
        self.assertEqual((status, body["error"]["code"]), (429, "rate_limit_exceeded"))
        self.assertGreater(int(headers["Retry-After"]), 0)
        self.assertEqual(headers["x-ratelimit-remaining-requests"], "0")

        mark = self.router.mark()
        self.policy_file(keys + "    request_per_minute: 100\n")
        self.router.wait_for(r"refused, .*nearest: requests_per_minute", after=mark)
        self.assertEqual(self.complete(team)[0], 429)

        mark = self.router.mark()
        self.policy_file(keys + "    requests_per_minute: 1000\n")
        self.router.wait_for("is in force", after=mark)
        self.assertEqual(self.complete(team)[0], 200)
        mark = self.router.mark()
        self.router.send(signal.SIGHUP)
        self.router.wait_for("is in force", after=mark)
        applied = self.metric('pleiad_router_policy_reloads_total{result="applied"}', team)
        refused = self.metric('pleiad_router_policy_reloads_total{result="refused"}', team)
        self.assertGreaterEqual(applied, 2)
        self.assertGreaterEqual(refused, 1)
        self.assertNotIn("sk-team", self.router.log())

    def test_lines_and_deadlines(self):
        """what does not fit waits in line, an urgent class first, and nobody beyond its deadline"""
        rules = (
            "max_concurrent_requests: 1\nclasses:\n"
            "  - {name: fast, priority: 0, weight: 100, queue_requests_max: 2}\n"
            "  - {name: slow, priority: 10, queue_requests_max: 2}\n"
        )
        self.start_router(["--policy-file", self.policy_file(rules)])
        self.start_workers(1)
        wait_until(lambda: self.client.status("/ready") == 200, SECONDS, "ready")
        story = self.client.stream({"prompt": "Once", "max_tokens": 3900, "ignore_eos": True, "priority": 10})
        story.wait_events(2)

        status, headers, body = self.complete({"x-queue-timeout-ms": "50"})
        self.assertEqual((status, body["error"]["code"]), (503, "overloaded"))
        self.assertIn("Retry-After", headers)
        self.assertEqual(self.complete({"x-priority": "fsat"})[0], 400)

        ended = []

        def ask(name):
            ended.append((name, self.complete({"x-priority": name})[0]))

        threads = [threading.Thread(target=ask, args=("slow",), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        waiting = 'pleiad_router_queue_requests{class="slow"}'
        wait_until(lambda: self.metric(waiting) == 2, SECONDS, "two wait")
        self.assertEqual(self.complete({"x-priority": "slow"})[0], 429)
        threads.append(threading.Thread(target=ask, args=("fast",), daemon=True))
        threads[-1].start()
        wait_until(lambda: self.metric('pleiad_router_queue_requests{class="fast"}') == 1, SECONDS, "one more waits")
        story.leave()
        for thread in threads:
            thread.join(SECONDS)
        self.assertEqual(sorted(ended), [("fast", 200), ("slow", 200), ("slow", 200)])
        self.assertEqual(ended[0][0], "fast")
        self.assertEqual(self.metric("pleiad_router_admitted_requests"), 0)
