// An agent for Amazon Bedrock AgentCore Runtime that needs nothing but Node.
//
// It answers POST /invocations and GET /ping on port 8080, and keeps its notes in the session's
// storage: they are there again when the session was stopped and is resumed.

import { appendFile, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const notesFile = () => join(process.env.WORKSPACE ?? "/mnt/workspace", "notes.txt");

// Appends the prompt to the notes and returns all of them, oldest first.
// The storage appears with the first call, so nothing is opened when the program starts.
export async function remember(prompt) {
  await appendFile(notesFile(), prompt.replaceAll("\n", " ") + "\n");
  const text = await readFile(notesFile(), "utf8");
  return text.split("\n").slice(0, -1);
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString("utf8");
}

function answer(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

async function handle(request, response) {
  const route = `${request.method} ${request.url}`;
  if (route === "GET /ping") return answer(response, 200, { status: "Healthy" });
  if (route !== "POST /invocations") return answer(response, 404, { error: "not found" });
  let payload;
  try {
    payload = JSON.parse((await body(request)) || "{}");
  } catch {
    return answer(response, 400, { error: "the payload is not JSON" });
  }
  if (payload === null || typeof payload !== "object") payload = { prompt: payload };
  const prompt = String(payload.prompt ?? "");
  const notes = await remember(prompt);
  if (!payload.stream) return answer(response, 200, { result: `noted: ${prompt}`, notes });
  // Server-sent events, each as soon as it is known.
  response.writeHead(200, { "content-type": "text/event-stream" });
  notes.forEach((note, at) => response.write(`data: ${JSON.stringify(`note ${at + 1}: ${note}`)}\n\n`));
  response.end();
}

export const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(error);
    if (response.headersSent) response.destroy();
    else answer(response, 500, { error: "the agent failed; see its log" });
  });
});

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.on("SIGTERM", () => server.close(() => process.exit(0)));
  server.listen(8080, "0.0.0.0");
}
