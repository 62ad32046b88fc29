import type { IncomingMessage, ServerResponse } from "node:http";
import type { Quotes } from "./quotes.js";

const LARGEST_BODY = 16 * 1024;

/** Answers every request of the service. */
export function routes(quotes: Quotes) {
  return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const id = /^\/quotes\/(\d+)$/.exec(url.pathname)?.[1];
    if (url.pathname === "/health") {
      return send(response, 200, { status: "ok", uptime: Math.floor(process.uptime()) });
    }
    if (id !== undefined && request.method === "GET") {
      const quote = quotes.find(Number(id));
      return quote ? send(response, 200, quote) : send(response, 404, { error: "no such quote" });
    }
    if (url.pathname === "/quotes" && request.method === "GET") {
      return send(response, 200, quotes.all(url.searchParams.get("author") ?? undefined));
    }
    if (url.pathname === "/quotes" && request.method === "POST") {
      return add(quotes, request, response);
    }
    send(response, 404, { error: "not found" });
  };
}

async function add(quotes: Quotes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = "";
  for await (const chunk of request) {
    body += chunk;
    if (body.length > LARGEST_BODY) {
      return send(response, 413, { error: "too large" });
    }
  }
  try {
    const { text, author } = JSON.parse(body) as Record<string, unknown>;
    if (typeof text === "string" && typeof author === "string") {
      return send(response, 201, quotes.add(text, author));
    }
  } catch {
    // Falls through to the answer for everything that is no quotation.
  }
  send(response, 400, { error: "text and author are required" });
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}
