"""The same request gives the same tokens and the same logprobs, to the last bit, however the model is spread."""
import itertools
import random

from answers import MODELS
from case import Case, seed

COMBINATIONS = 16
DIMENSIONS = {
    "model": list(MODELS),
    "ep_size": [2, 3, 4, 8],
    "processes": [1, 2, 4],
    "level": ["1", "2", "auto"],
    "two_batches": [False, True],
    "moe_tp": [1, 2, 4],
    "tp": [1, 2, 4],
    "buffers": ["", "[[0, 0.05]]", "[[64, 0.1], [0, 0.5]]"],
    "transports": ["", "tcp"],
}
# Always among them: the widest group.
WIDEST = {
    "model": "fable",
    "ep_size": 8,
    "processes": 4,
    "level": "2",
    "two_batches": True,
    "moe_tp": 1,
    "tp": 1,
    "buffers": "[[0, 0.05]]",
    "transports": "",
}
RANKS_MAX = 8  # of a small machine


def possible(c):
    ranks = c["ep_size"] * c["moe_tp"]
    crowded = ranks > RANKS_MAX or ranks % c["processes"] != 0 or ranks % c["tp"] != 0
    refused = c["tp"] > 1 and c["two_batches"]
    pointless = (c["processes"] == 1 and c["transports"]) or (c["buffers"] and c["level"] == "1")
    return not crowded and not refused and not pointless


def choose(draw):
    """A random selection in which each number of processes has its turn, and every value of the others occurs."""
    every = [dict(zip(DIMENSIONS, values)) for values in itertools.product(*DIMENSIONS.values())]
    candidates = [c for c in every if possible(c)]
    chosen = [WIDEST]
    while len(chosen) < COMBINATIONS:
        seen = {(name, c[name]) for c in chosen for name in c}
        turn = DIMENSIONS["processes"][len(chosen) % 3]
        handful = draw.sample([c for c in candidates if c["processes"] == turn], 20)
        chosen.append(max(handful, key=lambda c: len(set(c.items()) - seen)))
    return chosen


def words(c):
    out = f"{c['model']} on {c['ep_size']} x {c['moe_tp']} ranks in {c['processes']} processes, level {c['level']}"
    out += f", tp {c['tp']}" if c["tp"] > 1 else ""
    out += ", two batches" if c["two_batches"] else ""
    out += f", buffers {c['buffers']}" if c["buffers"] else ""
    return out + (f", over {c['transports']}" if c["transports"] else "")


def flags_of(c):
    flags = ["--ep-size", str(c["ep_size"]), "--moe-tp-size", str(c["moe_tp"]), "--ep-level", c["level"]]
    if c["tp"] > 1:
        # Tensor parts that stand on several nodes need caches of one size.
        flags += ["--tp-size", str(c["tp"]), "--kv-cache-bytes", "64MiB"]
    if c["two_batches"]:
        flags += ["--enable-two-batch-overlap", "--two-batch-token-threshold", "2"]
    if c["buffers"]:
        flags += ["--alltoall-ep-buffer-scale-factors", c["buffers"]]
    if c["transports"]:
        flags += ["--comm-transports", c["transports"]]
    return flags


class SameTokens(Case):
    def check(self, c):
        service = self.make(MODELS[c["model"]], flags_of(c), c["processes"])
        service.start()
        self.assert_same_answers(service, c["model"])
        self.assertEqual(set(service.stop().values()), {0}, "exit codes after SIGTERM")


def add_tests():
    for i, combination in enumerate(choose(random.Random(seed()))):

        def test(self, combination=combination):
            self.check(combination)

        test.__doc__ = "same tokens: " + words(combination)
        setattr(SameTokens, f"test_{i:02}", test)


add_tests()
