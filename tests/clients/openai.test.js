// The reference client: raw iteration, the stream() helper, errors, abort.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { collect, guardedUrl, key, messages, model, pagesAreReleased, url } from "./server.js";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const chat = (options) => client.chat.completions.create({ model, messages, max_tokens: 12, seed: 1, ...options });

test("models are listed and retrieved", async () => {
  const list = await collect(client.models.list());
  assert.equal(list.length, 1);
  assert.equal(list[0].id, model);
  assert.equal(list[0].object, "model");
  assert.deepEqual(await client.models.retrieve(model), list[0]);
});

test("a chat is answered whole", async () => {
  const answer = await chat({ temperature: 0 });
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.model, model);
  assert.ok(Math.abs(answer.created - Date.now() / 1000) < 60);
  assert.equal(answer.choices.length, 1);
  const [choice] = answer.choices;
  assert.equal(choice.index, 0);
  assert.equal(choice.message.role, "assistant");
  assert.ok(choice.message.content.length > 0);
  assert.ok(["stop", "length"].includes(choice.finish_reason));
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer.usage.completion_tokens <= 12);
});

test("an empty model name means the served model", async () => {
  assert.equal((await chat({ model: "", max_tokens: 1 })).model, model);
});

test("a stream read raw has the text of the whole answer", async () => {
  const whole = await chat({ temperature: 0 });
  const chunks = await collect(await chat({ temperature: 0, stream: true }));
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), whole.choices[0].message.content);
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  assert.equal(new Set(chunks.map((chunk) => chunk.created)).size, 1);
  const reasons = chunks.map((chunk) => chunk.choices[0].finish_reason);
  assert.equal(reasons.pop(), whole.choices[0].finish_reason);
  assert.ok(reasons.every((reason) => reason === null));
});

test("the stream() helper accepts every chunk", async () => {
  const whole = await chat({ temperature: 0 });
  let deltas = "";
  const stream = client.chat.completions
    .stream({ model, messages, max_tokens: 12, temperature: 0, stream_options: { include_usage: true } })
    .on("content", (delta) => (deltas += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  assert.equal(deltas, whole.choices[0].message.content);
  assert.equal(final.usage.completion_tokens, whole.usage.completion_tokens);
});

test("usage comes last, once, when it is asked for", async () => {
  const chunks = await collect(await chat({ stream: true, stream_options: { include_usage: true } }));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.ok(last.usage.prompt_tokens > 0);
  assert.ok(chunks.every((chunk) => chunk.usage === null && chunk.choices.length === 1));
});

test("three choices come side by side", async () => {
  const whole = await chat({ n: 3 });
  assert.deepEqual(whole.choices.map((choice) => choice.index), [0, 1, 2]);
  assert.ok(new Set(whole.choices.map((choice) => choice.message.content)).size > 1);
  const texts = ["", "", ""];
  for await (const chunk of await chat({ n: 3, stream: true })) {
    for (const choice of chunk.choices) texts[choice.index] += choice.delta.content ?? "";
  }
  assert.deepEqual(texts, whole.choices.map((choice) => choice.message.content));
});

test("the same seed tells the same story, another seed another", async () => {
  const tell = async (seed) => (await chat({ seed, max_tokens: 24, temperature: 1 })).choices[0].message.content;
  const [first, again, other] = [await tell(7), await tell(7), await tell(8)];
  assert.equal(again, first);
  assert.notEqual(other, first);
});

test("a stop string ends the answer and is not part of it", async () => {
  const full = (await chat({ temperature: 0, max_tokens: 40 })).choices[0].message.content;
  const stop = full.slice(10, 14);
  const expected = full.slice(0, full.indexOf(stop));
  const whole = await chat({ temperature: 0, max_tokens: 40, stop: [stop, "\u0000never"] });
  assert.equal(whole.choices[0].message.content, expected);
  assert.equal(whole.choices[0].finish_reason, "stop");
  const chunks = await collect(await chat({ temperature: 0, max_tokens: 40, stop, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), expected);
  await pagesAreReleased();
});

test("logprobs describe every token", async () => {
  const answer = await chat({ temperature: 0, logprobs: true, top_logprobs: 3 });
  const { content } = answer.choices[0].logprobs;
  assert.equal(content.length, answer.usage.completion_tokens);
  for (const token of content) {
    assert.ok(token.logprob <= 0);
    assert.equal(token.top_logprobs.length, 3);
    assert.equal(token.top_logprobs[0].token, token.token); // greedy
  }
  const bytes = Uint8Array.from(content.flatMap((token) => token.bytes));
  assert.equal(new TextDecoder().decode(bytes), answer.choices[0].message.content);
});

test("a wrong parameter is named", async () => {
  await assert.rejects(chat({ temperature: 3 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.status, 400);
    assert.equal(error.param, "temperature");
    assert.equal(error.type, "invalid_request_error");
    assert.match(error.message, /between 0 and 2/);
    assert.ok(error.requestID);
    return true;
  });
});

test("a prompt beyond the context is refused by its code", async () => {
  await assert.rejects(chat({ max_tokens: 1_000_000 }), { status: 400, code: "context_length_exceeded" });
});

test("an unknown model is not found", async () => {
  await assert.rejects(chat({ model: "gpt-9" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
  await assert.rejects(client.models.retrieve("gpt-9"), OpenAI.NotFoundError);
});

test("a missing or wrong key is refused, the right one is not", async () => {
  const guarded = (apiKey) => new OpenAI({ baseURL: `${guardedUrl}/v1`, apiKey, maxRetries: 0 });
  await assert.rejects(collect(guarded("sk-wrong").models.list()), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    return true;
  });
  assert.equal((await collect(guarded(key).models.list()))[0].id, model);
});

test("leaving the loop in mid-stream frees the request", async () => {
  let seen = 0;
  for await (const chunk of await chat({ stream: true, max_tokens: 3000, logit_bias: { 1: -100, 5: -100 } })) {
    seen += chunk.choices.length;
    if (seen === 3) break;
  }
  await pagesAreReleased();
});

test("an abort in mid-stream frees the request", async () => {
  const controller = new AbortController();
  const stream = await client.chat.completions.create(
    { model, messages, stream: true, max_tokens: 3000, logit_bias: { 1: -100, 5: -100 } },
    { signal: controller.signal },
  );
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) controller.abort();
  }
  await pagesAreReleased();
});

test("an abort of a whole answer frees the request", async () => {
  const controller = new AbortController();
  const answer = client.chat.completions.create(
    { model, messages, max_tokens: 3000, logit_bias: { 1: -100, 5: -100 } },
    { signal: controller.signal },
  );
  setImmediate(() => controller.abort());
  await assert.rejects(answer, OpenAI.APIUserAbortError);
  await pagesAreReleased();
});

test("a prompt is scored by echo, logprobs and no output", async () => {
  const prompt = "Once upon a time there was a king";
  const answer = await client.completions.create({ model, prompt, echo: true, logprobs: 2, max_tokens: 0 });
  const [choice] = answer.choices;
  assert.equal(choice.text, prompt);
  assert.equal(answer.usage.completion_tokens, 0);
  const { tokens, token_logprobs: scores, top_logprobs: top, text_offset: offsets } = choice.logprobs;
  assert.equal(tokens.length, answer.usage.prompt_tokens);
  assert.equal(tokens.join(""), prompt);
  assert.equal(scores[0], null);
  assert.ok(scores.slice(1).every((score) => score <= 0));
  assert.equal(top[0], null);
  assert.ok(top.slice(1).every((one) => Object.keys(one).length >= 2));
  assert.deepEqual(offsets, tokens.map((_, i) => tokens.slice(0, i).join("").length));
});

test("token ids continue like the text they stand for", async () => {
  const prompt = "Once upon a time";
  const response = await fetch(`${url}/tokenize`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model, prompt }),
  });
  const { tokens } = await response.json();
  const complete = async (one) =>
    (await client.completions.create({ model, prompt: one, max_tokens: 8, temperature: 0 })).choices[0].text;
  const text = await complete(prompt);
  assert.equal(await complete(tokens), text);
  const both = await client.completions.create({ model, prompt: [prompt, prompt], max_tokens: 8, temperature: 0 });
  assert.deepEqual(both.choices.map((choice) => choice.text), [text, text]);
});

test("a completion streams its text", async () => {
  const request = { model, prompt: "Once upon a time", max_tokens: 8, temperature: 0 };
  const whole = await client.completions.create(request);
  const chunks = await collect(await client.completions.create({ ...request, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), whole.choices[0].text);
});
