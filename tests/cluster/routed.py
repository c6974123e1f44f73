"""What cases with a router share: starting it, its metrics, and that nothing stays held."""
import threading

from answers import ask_all
from case import Case
from client import Client
from nodes import FABLE, Node, free_port, wait_until

SECONDS = 60.0


class RoutedCase(Case):
    """A router, self.router, with its client, self.client."""

    def start_workers(self, layouts):
        workers = [self.make(FABLE, flags) for flags in layouts]
        for worker in workers:
            worker.start()
        return workers

    def start_router(self, workers, flags=()):
        port = free_port()
        urls = [f"http://127.0.0.1:{worker.http}" for worker in workers]
        arguments = ["route", FABLE, "--port", str(port), "--worker-urls", *urls, "--drain-timeout", "5", *flags]
        self.router = Node("router", arguments)
        self.addCleanup(self.router.forget)
        self.addCleanup(self.router.kill)
        self.client = Client("127.0.0.1", port)
        wait_until(lambda: self.ready_workers() == len(workers), SECONDS, "all workers are ready")

    def logs(self):
        return super().logs() + "\n" + self.router.tail()

    def metric(self, name):
        status, text = self.client.request("GET", "/metrics")
        self.assertEqual(status, 200)
        found = [line for line in text.splitlines() if line.startswith(name + " ")]
        return float(found[0].split()[1]) if found else None

    def ready_workers(self):
        try:
            return self.metric("pleiad_router_ready_workers")
        except OSError:
            return None

    def wait_nothing_held(self, worker):
        """No page of the cache is held by a request any more."""

        def idle():
            status, body = worker.client.request("GET", "/ep")
            return status == 200 and all(r["pages_held"] == 0 and r["running"] == 0 for r in body["ranks"])

        wait_until(idle, SECONDS, "no page is held")

    def during(self, bodies, trouble):
        """The answers to all bodies, with `trouble()` once some have begun."""
        answers = []
        thread = threading.Thread(target=lambda: answers.extend(ask_all(self.client, bodies)), daemon=True)
        thread.start()
        wait_until(lambda: self.metric("pleiad_router_open_requests") >= len(bodies) / 2, SECONDS, "requests run")
        trouble()
        thread.join(SECONDS)
        self.assertFalse(thread.is_alive(), "still unanswered")
        return answers
