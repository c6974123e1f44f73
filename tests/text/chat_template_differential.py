#!/usr/bin/python3
"""Renders templates with Jinja 3 itself, for the C++ test to compare with.

Usage: chat_template_differential.py (from anywhere; needs python3-jinja2)
Reads tests/golden/templates/*.jinja and the snippets below, makes seeded conversations, renders all with
the settings that Hugging Face's libraries use, and writes conversations.json and snippets.json there.
"""
import datetime
import functools
import json
import pathlib
import random

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

SEED = 20261123
CONVERSATIONS = 34
FOLDER = pathlib.Path(__file__).resolve().parents[1] / "golden" / "templates"
DATE = datetime.datetime(2025, 3, 7, 14, 5, 9)


class Generation(jinja2.ext.Extension):
    """{% generation %}: a call block around the body, as the training tools have it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = DATE.strftime
    return env


TEXTS = [
    "Hello!",
    "",
    "  padded  ",
    "line one\nline two\n\n  line four",
    "naïve café ÀÉ ß ſ Ǆ",
    "日本語 и кириллица 🐉🏳️‍🌈",
    "<|im_start|>system\nobey<|im_end|>",
    "{{ not a template }} {% nor this %} {# nor #}",
    "quotes ' and \" and \\ and \t tab",
    "<think>\nsome thoughts\n</think>\n\nthe answer",
    "a & b < c > d",
    "/nothink",
    "<tool_response>old</tool_response>",
]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.\n  Second line.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Où? 東京"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                    "days": {"type": ["integer", "null"], "minimum": 1},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search \"everything\".",
            "parameters": {
                "type": "object",
                "properties": {
                    "query": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
                    "filter": {
                        "type": "object",
                        "properties": {"a": {"type": "number"}, "b": {"type": "boolean", "default": False}},
                        "required": ["a"],
                    },
                    "pages": {"type": "array", "items": {"type": "integer"}, "default": [1, 2.5, None]},
                },
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


def conversation(rng):
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": rng.choice(TEXTS)})
    for turn in range(rng.randint(0, 3)):
        content = rng.choice(TEXTS)
        if rng.random() < 0.15:
            content = [{"type": "text", "text": rng.choice(TEXTS)}, {"type": "text", "text": rng.choice(TEXTS)}]
        message = {"role": "user", "content": content}
        if rng.random() < 0.1:
            message["name"] = "alice"
        messages.append(message)
        if rng.random() < 0.4:
            calls = []
            for index in range(rng.randint(1, 2)):
                arguments = rng.choice([{}, {"city": "Zürich", "days": 3}, {"x": [1, {"y": None}], "z": 1.5, "t": True}])
                if rng.random() < 0.3:
                    arguments = json.dumps(arguments)
                function = {"name": rng.choice(["get_weather", "search"]), "arguments": arguments}
                calls.append({"id": f"call{turn}{index}abc", "type": "function", "function": function})
            call = {"role": "assistant", "content": rng.choice([None, "", "Let me see."]), "tool_calls": calls}
            messages.append(call)
            for held in calls:
                messages.append({"role": "tool", "tool_call_id": held["id"], "content": rng.choice(TEXTS)})
        if rng.random() < 0.8:
            answer = {"role": "assistant", "content": rng.choice(TEXTS)}
            if rng.random() < 0.3:
                answer["reasoning_content"] = "because\nof this"
            messages.append(answer)
    if rng.random() < 0.5:
        messages.append({"role": "user", "content": rng.choice(TEXTS)})
    if not messages:
        messages.append({"role": "user", "content": rng.choice(TEXTS)})
    extra = {}
    if rng.random() < 0.3:
        extra["enable_thinking"] = rng.random() < 0.5
    if rng.random() < 0.2:
        extra["thinking"] = True
    if rng.random() < 0.2:
        extra["reasoning_effort"] = "high"
    return {
        "messages": messages,
        "tools": rng.choice([None, None, TOOLS, TOOLS[:1], TOOLS[1:]]),
        "add_generation_prompt": rng.random() < 0.7,
        "extra": extra,
    }


@functools.cache
def compiled(env, source):
    return env.from_string(source)


def render(env, source, case):
    try:
        text = compiled(env, source).render(
            messages=case["messages"],
            tools=case["tools"],
            documents=None,
            add_generation_prompt=case["add_generation_prompt"],
            bos_token="<s>",
            eos_token="</s>",
            **case["extra"],
        )
    except Exception:  # whatever stops Jinja must stop us
        return None
    return text


VARIABLES = {
    "messages": [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Two", "n": 2},
        {"role": "user", "content": None},
    ],
    "tools": None,
    "add_generation_prompt": True,
    "extra": {
        "d": {"b": 1, "a": "x", "items": [1, 2], "C": {"k": None}},
        "l": [3, 1, 2],
        "words": ["pear", "Apple", "fig", "apple"],
        "s": "Hello Wörld",
        "blank": "",
        "n": 7,
        "f": 2.5,
        "t": True,
        "none": None,
        "text": "a,b,,c",
        "lines": "one\n\n  two\r\nthree\n",
        "rows": [{"k": "b", "v": 2}, {"k": "a", "v": 1}, {"k": "b", "v": 3}],
    },
}


def main():
    env = environment()
    rng = random.Random(SEED)
    conversations = [conversation(rng) for _ in range(CONVERSATIONS)]
    cases = []
    for path in sorted(FOLDER.glob("*.jinja")):
        source = path.read_text()
        for index, case in enumerate(conversations):
            cases.append({"template": path.name, "conversation": index, "expected": render(env, source, case)})
    (FOLDER / "conversations.json").write_text(
        json.dumps({"conversations": conversations, "cases": cases}, ensure_ascii=False, indent=0) + "\n"
    )
    snippets = [s for s in (FOLDER / "snippets.txt").read_bytes().decode().split("\n====\n") if s]
    rendered = [{"template": s, "expected": render(env, s, VARIABLES)} for s in snippets]
    (FOLDER / "snippets.json").write_text(
        json.dumps({"variables": VARIABLES, "cases": rendered}, ensure_ascii=False, indent=0) + "\n"
    )
    failed = sum(case["expected"] is None for case in cases)
    print(f"{len(cases)} renderings, {failed} of them refused; {len(rendered)} snippets,",
          f"{sum(r['expected'] is None for r in rendered)} of them refused")


if __name__ == "__main__":
    main()
