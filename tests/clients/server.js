// The servers under test, and what is known of them without a client library.

export const url = required("PLEIAD_URL");
export const guardedUrl = required("PLEIAD_GUARDED_URL");
export const key = "sk-clients-test";
export const model = "fable";

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start the suite with tests/clients/run`);
  return value;
}

export const messages = [{ role: "user", content: "Tell me a story about a fox." }];

// POSTs a JSON body and gives fetch's response.
export function post(path, body, headers = {}) {
  return fetch(url + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

// Who computes: behind a router, its workers.
const workers = process.env.PLEIAD_WORKER_URLS?.split(" ") ?? [url];
const workersDie = process.env.PLEIAD_WORKERS_DIE === "1";

// The value of an unlabelled or single-series metric of a worker.
async function metric(worker, name) {
  const text = await (await fetch(`${worker}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(`${name}{`) || one.startsWith(`${name} `));
  if (line === undefined) throw new Error(`no metric ${name}`);
  return Number(line.slice(line.lastIndexOf(" ") + 1));
}

// What a worker holds; nothing while it is killed and started again.
async function pagesHeld(worker) {
  try {
    return await metric(worker, "pleiad_kv_pages_held");
  } catch (failure) {
    if (workersDie) return 0;
    throw failure;
  }
}

// Asks again and again until no request holds a KV page anywhere; fails after ten seconds.
export async function pagesAreReleased() {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const held = (await Promise.all(workers.map(pagesHeld))).reduce((sum, pages) => sum + pages);
    if (held === 0) return;
    if (performance.now() > deadline) throw new Error(`${held} KV pages are still held`);
  }
}

// Collects an async iterable.
export async function collect(iterable) {
  const out = [];
  for await (const item of iterable) out.push(item);
  return out;
}
