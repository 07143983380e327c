// `npm test`: the agent on a port of its own, with a directory in the storage's place.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { server } from "./main.js";

let base;

before(async () => {
  process.env.WORKSPACE = await mkdtemp(join(tmpdir(), "agent-"));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${server.address().port}`;
});

after(async () => {
  server.closeAllConnections();
  server.close();
  await rm(process.env.WORKSPACE, { recursive: true });
});

const invoke = (body) => fetch(`${base}/invocations`, { method: "POST", body });

test("it is healthy", async () => {
  const response = await fetch(`${base}/ping`);
  assert.deepEqual([response.status, await response.json()], [200, { status: "Healthy" }]);
});

test("it remembers", async () => {
  assert.deepEqual((await (await invoke('{"prompt": "milk"}')).json()).notes, ["milk"]);
  assert.deepEqual((await (await invoke('"bread"')).json()).notes, ["milk", "bread"]);
  const stream = await invoke('{"prompt": "eggs", "stream": true}');
  assert.equal(stream.headers.get("content-type"), "text/event-stream");
  assert.match(await stream.text(), /data: "note 3: eggs"\n\n$/);
});

test("it refuses what it cannot read", async () => {
  assert.equal((await invoke("{")).status, 400);
  assert.equal((await fetch(`${base}/other`)).status, 404);
});
