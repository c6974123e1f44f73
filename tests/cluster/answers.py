"""Requests whose answers must be the same whatever serves them, and how answers are compared."""
import json
import os
import random
import threading

from nodes import FABLE, ROOT, Service

GOLDEN = {name: os.path.join(ROOT, "tests", "golden", name) for name in ("deepseek_v3", "kimi_k2")}
MODELS = {"fable": FABLE, **GOLDEN}
VOCABULARY = {"fable": 4096, "deepseek_v3": 512, "kimi_k2": 512}

_references = {}


TOKENS = 12


def make_requests(model, count=8, tokens=TOKENS):
    """Prompts of very different lengths, greedy and sampled, with and without penalties."""
    draw = random.Random(f"{model} {count} {tokens}")
    out = []
    for i in range(count):
        length = draw.choice([1, 3, 17, 64, 65, 150])
        out.append(
            {
                "prompt": [draw.randrange(6, VOCABULARY[model]) for _ in range(length)],
                "max_tokens": tokens,
                "temperature": [0, 0.8, 1.2][i % 3],
                "top_p": draw.choice([1, 0.9]),
                "seed": draw.randrange(1 << 40),
                "frequency_penalty": draw.choice([0, 0.5]),
                "logprobs": 3,
                "ignore_eos": True,
                "return_token_ids": True,
                "return_tokens_as_token_ids": True,
            }
        )
    return out


def ask_all(client, bodies):
    """The answers to all `bodies`, asked at the same time."""
    answers = [None] * len(bodies)

    def ask(i):
        status, body = client.request("POST", "/v1/completions", bodies[i])
        answers[i] = body["choices"] if status == 200 else {"status": status, "body": body}

    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    return answers


def reference(model):
    """The answers of ep_size 1, one request after another."""
    if model not in _references:
        service = Service(MODELS[model], ["--ep-size", "1"])
        try:
            service.start()
            answers = [ask_all(service.client, [body])[0] for body in make_requests(model)]
            refused = [answer for answer in answers if not isinstance(answer, list)]
            assert not refused, f"ep_size 1 did not answer: {refused[0]}"
            assert all(len(answer[0]["token_ids"]) == TOKENS for answer in answers), answers
            _references[model] = answers
        finally:
            service.close()
    return _references[model]


def difference(wanted, got):
    """Where two lists of answers differ first, in words; empty when nowhere."""
    for i, (one, other) in enumerate(zip(wanted, got, strict=True)):
        if one == other:
            continue
        if not isinstance(other, list):
            return f"request {i} was not answered: {json.dumps(other)[:300]}"
        ids, other_ids = one[0]["token_ids"], other[0]["token_ids"]
        if ids != other_ids:
            return f"request {i}: tokens {ids} became {other_ids}"
        return f"request {i}: same tokens, but {one[0]['logprobs']} became {other[0]['logprobs']}"
    return ""


def story(seed, tokens=1500):
    """A stream that lasts for seconds."""
    return {
        "prompt": [7 + seed, 11, 13],
        "max_tokens": tokens,
        "temperature": 0.9,
        "seed": seed,
        "ignore_eos": True,
        "return_token_ids": True,
    }
