// The AI SDK: an independent reader of the protocol, with strict schemas.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, streamText } from "ai";
import { collect, guardedUrl, key, model, pagesAreReleased, url } from "./server.js";

const provider = (baseURL, apiKey) =>
  createOpenAICompatible({ name: "pleiad", baseURL: `${baseURL}/v1`, apiKey, includeUsage: true });
const fable = provider(url, "none")(model);
const prompt = "Tell me a story about a fox.";
const request = { model: fable, prompt, maxOutputTokens: 12, temperature: 0, maxRetries: 0 };

test("text is generated", async () => {
  const { text, finishReason, usage } = await generateText(request);
  assert.ok(text.length > 0);
  assert.ok(["stop", "length"].includes(finishReason));
  assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
});

test("text is streamed, with usage", async () => {
  const whole = await generateText(request);
  const result = streamText(request);
  const pieces = await collect(result.textStream);
  assert.ok(pieces.length > 1);
  assert.equal(pieces.join(""), whole.text);
  assert.equal(await result.finishReason, whole.finishReason);
  assert.deepEqual((await result.usage).outputTokens, whole.usage.outputTokens);
});

test("a system message and a stop sequence are obeyed", async () => {
  const full = (await generateText({ ...request, system: "Be brief." })).text;
  const stop = full.slice(6, 9);
  const { text, finishReason } = await generateText({ ...request, system: "Be brief.", stopSequences: [stop] });
  assert.equal(text, full.slice(0, full.indexOf(stop)));
  assert.equal(finishReason, "stop");
});

test("refusals keep their status and their words", async () => {
  await assert.rejects(generateText({ ...request, temperature: 3 }), (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, 400);
    assert.match(error.message, /temperature must be a number between 0 and 2/);
    assert.equal(error.isRetryable, false);
    return true;
  });
  await assert.rejects(generateText({ ...request, model: provider(url, "none")("gpt-9") }), { statusCode: 404 });
  await assert.rejects(generateText({ ...request, model: provider(guardedUrl, "sk-wrong")(model) }), {
    statusCode: 401,
  });
  assert.ok((await generateText({ ...request, model: provider(guardedUrl, key)(model) })).text.length > 0);
});

test("a refused stream is an error part", async () => {
  const errors = [];
  const result = streamText({ ...request, temperature: 3, onError: ({ error }) => errors.push(error) });
  await collect(result.fullStream);
  assert.equal(errors.length, 1);
  assert.equal(errors[0].statusCode, 400);
});

test("an abort in mid-stream frees the request", async () => {
  const controller = new AbortController();
  const result = streamText({ ...request, maxOutputTokens: 3000, temperature: 1, abortSignal: controller.signal });
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") controller.abort();
  }
  await pagesAreReleased();
});
