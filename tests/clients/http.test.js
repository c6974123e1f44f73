// What no client library shows: heads, framing, connections.
import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";
import { guardedUrl, key, messages, model, pagesAreReleased, post, url } from "./server.js";

const chat = { model, messages, max_tokens: 4 };

// One request over `agent`: the answer, and the local port it went out from.
function send(agent, path, body) {
  return new Promise((resolve, reject) => {
    const options = { agent, method: body ? "POST" : "GET", headers: body ? { "Content-Type": "application/json" } : {} };
    const request = http.request(url + path, options, (response) => {
      const port = response.socket.localPort;
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => (text += piece));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text, port }));
    });
    request.on("error", reject);
    request.end(body && JSON.stringify(body));
  });
}

test("whole answers are JSON with a length and a request id", async () => {
  const response = await post("/v1/chat/completions", chat, { "x-request-id": "mine" });
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.equal(response.headers.get("x-request-id"), "mine");
  assert.equal(Number(response.headers.get("content-length")), Buffer.byteLength(await response.text()));
});

test("streams are event streams that end with [DONE]", async () => {
  const response = await post("/v1/chat/completions", { ...chat, stream: true });
  assert.match(response.headers.get("content-type"), /^text\/event-stream/);
  assert.equal(response.headers.get("cache-control"), "no-cache");
  assert.equal(response.headers.get("x-accel-buffering"), "no");
  const text = await response.text();
  assert.ok(text.endsWith("data: [DONE]\n\n"));
  assert.ok(text.split("\n\n").slice(0, -1).every((event) => /^data: \S/.test(event)));
});

test("one connection carries whole answers, streams and refusals in turn", async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const answers = [
    await send(agent, "/v1/models"),
    await send(agent, "/v1/chat/completions", chat),
    await send(agent, "/v1/chat/completions", { ...chat, stream: true }),
    await send(agent, "/v1/chat/completions", { ...chat, n: 0 }),
    await send(agent, "/nowhere"),
    await send(agent, "/health"),
  ];
  agent.destroy();
  assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 200, 400, 404, 200]);
  assert.equal(new Set(answers.map((answer) => answer.port)).size, 1);
});

test("errors are error objects with all four members", async () => {
  for (const [path, body, status] of [
    ["/v1/chat/completions", "{", 400],
    ["/v1/chat/completions", { messages: [] }, 400],
    ["/v1/completions", { prompt: [-1] }, 400],
    ["/v1/completions", { prompt: [4096] }, 400],
    ["/v1/chat/completions", `{"messages": ${"[".repeat(100_000)}`, 400],
    ["/v1/models", {}, 405],
    ["/v1/embeddings", {}, 404],
  ]) {
    const response = await post(path, body);
    assert.equal(response.status, status);
    const { error } = await response.json();
    assert.deepEqual(Object.keys(error).sort(), ["code", "message", "param", "type"]);
    assert.equal(error.type, "invalid_request_error");
  }
  const plain = await fetch(`${url}/v1/chat/completions`, { method: "POST", body: "a=b" });
  assert.equal(plain.status, 415);
});

test("media are refused and never fetched", async () => {
  let visits = 0;
  const trap = http.createServer((_, response) => response.end(String(++visits)));
  await new Promise((resolve) => trap.listen(0, "127.0.0.1", resolve));
  const image = { type: "image_url", image_url: { url: `http://127.0.0.1:${trap.address().port}/` } };
  const response = await post("/v1/chat/completions", { ...chat, messages: [{ role: "user", content: [image] }] });
  assert.equal(response.status, 400);
  assert.equal((await response.json()).error.param, "messages[0].content");
  trap.close();
  assert.equal(visits, 0);
});

test("a key opens with and without its scheme", async () => {
  const status = async (authorization) =>
    (await fetch(`${guardedUrl}/v1/models`, { headers: authorization ? { authorization } : {} })).status;
  assert.equal(await status(`Bearer ${key}`), 200);
  assert.equal(await status(key), 200);
  assert.equal(await status(`Bearer ${key}x`), 401);
  assert.equal(await status(), 401);
  assert.equal((await fetch(`${guardedUrl}/health`)).status, 200);
});

test("a reset in mid-stream frees the request", async () => {
  await new Promise((resolve, reject) => {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, agent: false };
    const request = http.request(`${url}/v1/chat/completions`, options, (response) => {
      response.once("data", () => {
        response.socket.resetAndDestroy();
        resolve();
      });
      response.on("error", () => {}); // the reset, seen from this end
    });
    request.on("error", reject);
    request.end(JSON.stringify({ ...chat, stream: true, max_tokens: 3000, ignore_eos: true }));
  });
  await pagesAreReleased();
});
