#!/usr/bin/python3
"""Makes seeded conversations and renders each with every family's template, by Jinja 3 itself.

Usage: family_conversations.py [COUNT [SEED]] (from anywhere; needs python3-jinja2)
Reads tests/golden/templates/families/*.jinja; prints one JSON object in the form of
tests/golden/templates/conversations.json: conversations, and the text that each template makes of
each of them, null where Jinja refuses.
"""
import json
import pathlib
import random
import sys

from chat_template_differential import FOLDER, TEXTS, TOOLS, environment, render

COUNT = 300
SEED = 4

WORDS = [
    "", " ", "\n", "a", "Hello", "yes,\tno", "<", "&amp;", "'", '"', "\\", "\\n", "{{", "}}", "{%", "%}", "{#",
    "é", "ß", "İ", "日本語", "עברית", "🐉", "👩‍👩‍👧", "\u2028", "\u200b", "\u00a0", "\ufeff", "\x7f", "\x01",
    "<think>", "</think>", "<｜User｜>", "<|im_end|>", "[/INST]", "<|channel|>", "</s>", "/nothink", "<tool_response>",
    "1e5", "None", "true",
]
NAMES = ["get_weather", "search", "now", "größe", "a.b-c_9"]


def text(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(TEXTS)
    if kind < 0.4:
        return ""
    return rng.choice(["", " ", "\n"]).join(rng.choice(WORDS) for _ in range(rng.randint(1, 12)))


def content(rng):
    """A string mostly, else parts as OpenAI's API has them."""
    if rng.random() < 0.85:
        return text(rng)
    parts = [{"type": "text", "text": text(rng)} for _ in range(rng.randint(0, 3))]
    if rng.random() < 0.2:
        parts.insert(rng.randint(0, len(parts)), {"type": "image_url", "image_url": {"url": "data:,"}})
    return parts


def value(rng, depth=0):
    kinds = 6 if depth > 2 else 8
    kind = rng.randrange(kinds)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.choice([0, -1, 7, 2**31, -(2**62)])
    if kind == 3:
        return rng.choice([0.5, -2.0, 1e300, 1e-7, 3.141592653589793, 1e16, 123456789.125])
    if kind < 6:
        return text(rng)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {f"k{i}" if rng.random() < 0.8 else f"ключ {i}": value(rng, depth + 1) for i in range(rng.randint(0, 3))}


def arguments(rng):
    held = {name: value(rng) for name in rng.sample(["city", "days", "q", "größe", "nested"], rng.randint(0, 4))}
    return json.dumps(held, ensure_ascii=rng.random() < 0.5) if rng.random() < 0.35 else held


def schema(rng, depth=0):
    kind = rng.randrange(5 if depth > 1 else 8)
    made = {}
    if kind == 0:
        made["type"] = rng.choice(["string", "number", "integer", "boolean", "null"])
    elif kind == 1:
        made.update(type="string", enum=[text(rng) for _ in range(rng.randint(1, 3))])
    elif kind == 2:
        made["type"] = rng.choice([["string", "null"], ["integer"]])
    elif kind == 3:
        made.update(type="string", nullable=rng.random() < 0.5, description=text(rng))
    elif kind == 4:
        pass
    elif kind == 5:
        made.update(type="array", **({"items": schema(rng, depth + 1)} if rng.random() < 0.8 else {}))
    elif kind == 6:
        made["oneOf"] = [schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    else:
        made.update(type="object", properties={f"p{i}": schema(rng, depth + 1) for i in range(rng.randint(0, 3))})
        if made["properties"] and rng.random() < 0.5:
            made["required"] = rng.sample(sorted(made["properties"]), 1)
    if rng.random() < 0.3:
        made["default"] = value(rng, 2)
    return made


def tools(rng):
    kind = rng.random()
    if kind < 0.45:
        return None
    if kind < 0.5:
        return []
    if kind < 0.65:
        return TOOLS
    made = []
    for _ in range(rng.randint(1, 3)):
        function = {"name": rng.choice(NAMES)}
        if rng.random() < 0.8:
            function["description"] = text(rng)
        if rng.random() < 0.8:
            names = rng.sample(["city", "days", "q", "größe"], rng.randint(0, 3))
            function["parameters"] = {"type": "object", "properties": {name: schema(rng) for name in names}}
            if names and rng.random() < 0.6:
                function["parameters"]["required"] = names[:1]
        made.append({"type": "function", "function": function})
    return made


def calling_turns(rng, turn):
    calls = []
    for index in range(1 if rng.random() < 0.7 else rng.randint(2, 3)):
        name = rng.choice(NAMES)
        function = {"name": name, "arguments": arguments(rng)}
        calls.append({"id": f"functions.{name}:{turn}{index}", "type": "function", "function": function})
    call = {"role": "assistant", "content": rng.choice([None, "", text(rng)]), "tool_calls": calls}
    for field in ("thinking", "reasoning_content"):
        if rng.random() < 0.2:
            call[field] = text(rng)
    made = [call]
    for held in calls:
        result = text(rng) if rng.random() < 0.8 else rng.choice([[{"type": "text", "text": text(rng)}], [{"output": text(rng)}]])
        made.append({"role": "tool", "tool_call_id": held["id"], "name": held["function"]["name"], "content": result})
    return made


def conversation(rng):
    simple = rng.random() < 0.4  # turns that even the plainest template takes
    messages = []
    if rng.random() < 0.5:
        role = "developer" if not simple and rng.random() < 0.2 else "system"
        messages.append({"role": role, "content": text(rng) if simple else content(rng)})
    for turn in range(rng.randint(0, 4)):
        user = {"role": "user", "content": text(rng) if simple else content(rng)}
        if not simple and rng.random() < 0.1:
            user["name"] = rng.choice(["alice", "日本", ""])
        messages.append(user)
        if not simple and rng.random() < 0.45:
            for _ in range(rng.randint(1, 2)):
                messages += calling_turns(rng, turn)
        if not simple and rng.random() < 0.15:
            continue
        answer = {"role": "assistant", "content": text(rng) if simple else content(rng)}
        for field in ("thinking", "reasoning_content"):
            if rng.random() < 0.2:
                answer[field] = rng.choice([None, "", text(rng)])
        if rng.random() < 0.05:
            answer["tool_calls"] = rng.choice([None, []])
        if rng.random() < 0.05:
            answer["prefix"] = True
        messages.append(answer)
    if rng.random() < 0.6 or not messages:
        messages.append({"role": "user", "content": text(rng)})
    if rng.random() < 0.02:
        messages.append({"role": "narrator", "content": text(rng)})
    extra = {}
    for name, values in {
        "enable_thinking": [True, False],
        "thinking": [True, False],
        "reasoning_effort": ["low", "high"],
        "model_identity": ["You are Ä.", ""],
    }.items():
        if rng.random() < 0.3:
            extra[name] = rng.choice(values)
    return {
        "messages": messages,
        "tools": None if simple else tools(rng),
        "add_generation_prompt": rng.random() < 0.7,
        "extra": extra,
    }


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else SEED)
    env = environment()
    conversations = [conversation(rng) for _ in range(count)]
    cases = []
    for path in sorted((FOLDER / "families").glob("*.jinja")):
        source = path.read_text()
        for index, case in enumerate(conversations):
            cases.append({"template": path.name, "conversation": index, "expected": render(env, source, case)})
    json.dump({"conversations": conversations, "cases": cases}, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
