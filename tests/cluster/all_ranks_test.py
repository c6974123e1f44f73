"""What node 0 shows: the ranks of all nodes in /metrics and /ep, with counts that add up exactly."""
import json
import os
import re

from answers import MODELS, TOKENS, ask_all, make_requests
from case import Case
from nodes import wait_until

RANKS = 4
REQUESTS = 16
SECONDS = 10.0  # nodes report every second
FLAGS = ["--ep-size", str(RANKS), "--no-enable-prefix-caching"]


def samples(text):
    """{(name, engine): value}, summed over other labels, of series that have an engine."""
    out = {}
    for name, labels, value in re.findall(r"^([\w:]+)\{(.*)\} (\S+)$", text, re.M):
        engine = re.search(r'(?:^|,)engine="(\d+)"', labels)
        if engine and 'le="' not in labels:
            key = name, int(engine[1])
            out[key] = out.get(key, 0.0) + float(value)
    return out


class AllRanks(Case):
    def metrics(self, service):
        status, text = service.client.request("GET", "/metrics")
        self.assertEqual(status, 200)
        return text

    def report(self, service):
        status, body = service.client.request("GET", "/ep")
        self.assertEqual(status, 200)
        return body

    def total(self, service, name):
        """The sum over engines, or None while some do not show."""
        found = samples(self.metrics(service))
        values = [found.get((name, rank)) for rank in range(RANKS)]
        return None if None in values else sum(values)

    def wait_total(self, service, name, wanted):
        wait_until(lambda: self.total(service, name) == wanted, SECONDS, f"{name} is {wanted} over all ranks")

    def assert_one_text(self, text):
        """As Prometheus wants it: families in one piece, each described once, no series twice."""
        lines = text.splitlines()
        heads = [line for line in lines if line.startswith("#")]
        self.assertEqual(len(heads), len(set(heads)))
        seen = []
        for line in lines:
            family = re.match(r"# (?:HELP|TYPE) (\S+)", line)
            if family and family[1] not in seen:
                seen.append(family[1])
            elif not family:
                self.assertRegex(line, f"^{re.escape(seen[-1])}(?:_bucket|_sum|_count)?[{{ ]")
        series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
        self.assertEqual(len(series), len(set(series)))
        self.assertEqual(len(set(re.findall('model_name="([^"]*)"', text))), 1)

    def test_sums(self):
        """node 0 shows every rank: tokens, assignments and tokens per expert are exactly what was computed"""
        model = "deepseek_v3"
        with open(os.path.join(MODELS[model], "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        layers = config["num_hidden_layers"] - config["first_k_dense_replace"]
        topk = config["num_experts_per_tok"]
        service = self.make(MODELS[model], FLAGS, 2)
        service.start()
        # The worker has asked itself twice before it was ready.
        self.wait_total(service, "vllm:request_success_total", 2)
        before = self.total(service, "vllm:generation_tokens_total")
        own_rows = before + self.total(service, "vllm:prompt_tokens_total") - 2
        requests = make_requests(model, REQUESTS)
        answers = ask_all(service.client, requests)
        self.assertEqual([len(answer[0]["token_ids"]) for answer in answers], [TOKENS] * REQUESTS)

        generated = before + REQUESTS * TOKENS
        self.wait_total(service, "vllm:request_success_total", 2 + REQUESTS)
        self.wait_total(service, "vllm:generation_tokens_total", generated)
        self.assert_one_text(self.metrics(service))
        # The last token of an answer is computed by nobody.
        rows = own_rows + sum(len(body["prompt"]) + TOKENS - 1 for body in requests)
        self.wait_total(service, "pleiad_ep_assignments_total", rows * topk * layers)
        self.check_report(service, rows * topk, layers)
        found = samples(self.metrics(service))
        for rank in range(RANKS):
            self.assertGreater(found["vllm:generation_tokens_total", rank], 0, f"rank {rank}")

    def check_report(self, service, choices, layers):
        def shown():
            return sum(rank.get("assignments", 0) for rank in self.report(service)["ranks"]) == choices * layers

        wait_until(shown, SECONDS, f"/ep shows {choices * layers} assignments")
        report = self.report(service)
        self.assertEqual([(rank["rank"], rank["node"]) for rank in report["ranks"]], [(0, 0), (1, 0), (2, 1), (3, 1)])
        for rank in report["ranks"]:
            for name in ("assignments", "rows_sent", "dispatch_bytes", "combine_bytes"):
                self.assertGreater(rank[name], 0, f"{name} of rank {rank['rank']}")
        self.assertEqual([sum(layer["tokens"]) for layer in report["layers"]], [choices] * layers)
        for layer in report["layers"]:
            even = choices / len(layer["tokens"]) / max(layer["tokens"])
            self.assertAlmostEqual(float(layer["balancedness"]), even)

    def test_lost_node(self):
        """series of a lost node go with the group and come back with its first report"""
        service = self.make(MODELS["deepseek_v3"], FLAGS, 2)
        service.start()
        engines = lambda: {rank for _, rank in samples(self.metrics(service))}
        wait_until(lambda: engines() == {0, 1, 2, 3}, SECONDS, "all ranks in /metrics")
        service.nodes[1].kill()
        wait_until(lambda: engines() == {0, 1}, SECONDS, "the lost node's ranks are gone from /metrics")
        self.assertIn("waiting", self.report(service))
        service.start_node(1)
        service.wait_ready()
        wait_until(lambda: engines() == {0, 1, 2, 3}, SECONDS, "all ranks in /metrics again")
        self.assert_one_text(self.metrics(service))
