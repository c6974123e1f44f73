"""What a group costs: nothing while idle, and of memory its share."""
import json
import os
import time

from case import Case
from nodes import FABLE

IDLE_SECONDS = 2.0
IDLE_SHARE_MAX = 0.02  # of a core, all processes together
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        # The name in parentheses may hold anything; user and system time are fields 14 and 15.
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def packed_expert_mib():
    """Of the routed experts of the bundled model, in the 2 bytes a weight that they are packed in."""
    with open(os.path.join(FABLE, "config.json"), encoding="utf-8") as file:
        c = json.load(file)
    layers = c["num_hidden_layers"] - c["first_k_dense_replace"]
    weights = layers * c["n_routed_experts"] * 3 * c["hidden_size"] * c["moe_intermediate_size"]
    return weights * 2 / 2**20


def weights_mib(node):
    return float(node.wait_for(r"  weights ([0-9.]+) MiB")[1].group(1))


class Cost(Case):
    def test_idle(self):
        """an idle group of 4 ranks on 2 nodes uses less than 2 % of a core"""
        service = self.make(flags=["--ep-size", "4"], nodes=2)
        service.start()
        self.assert_same_answers(service, count=4)
        before = {node.pid: cpu_seconds(node.pid) for node in service.nodes.values()}
        time.sleep(IDLE_SECONDS)  # what is measured, not what is waited for
        used = sum(cpu_seconds(pid) - was for pid, was in before.items())
        self.assertLess(used / IDLE_SECONDS, IDLE_SHARE_MAX, f"{used:.3f} s of CPU in {IDLE_SECONDS} s")

    def test_weights(self):
        """each of 4 processes holds the dense weights and a quarter of the experts"""
        alone = self.make(flags=["--ep-size", "1"])
        alone.start()
        whole = weights_mib(alone.nodes[0])
        alone.close()
        service = self.make(flags=["--ep-size", "4"], nodes=4)
        service.start()
        parts = [weights_mib(node) for node in service.nodes.values()]
        wanted = whole - 0.75 * packed_expert_mib()
        for part in parts:
            self.assertLess(abs(part - wanted), 0.03 * whole, f"{parts} MiB, {wanted:.1f} wanted, {whole} alone")
