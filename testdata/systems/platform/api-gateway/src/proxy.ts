import http, { type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import type { Request, RequestHandler, Response } from "express";
import type { Balancer } from "./balancer.js";
import { log } from "./kit/log.js";

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

// Headers about one connection, which do not pass a gateway.
const HOP_BY_HOP = ["connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"];

/** Passes requests on, bodies as streams. What has no body is tried at every address. */
export function proxy(service: string, balancer: Balancer, timeoutMs: number): RequestHandler {
  return async (request, response) => {
    const isSafe = request.method === "GET" || request.method === "HEAD";
    const targets = balancer.order().slice(0, isSafe ? undefined : 1);
    for (const target of targets) {
      try {
        const answer = await ask(target, request, timeoutMs);
        balancer.answered(target);
        return pass(answer, response);
      } catch (error) {
        balancer.failed(target);
        log("warn", "no answer", { service, target, error: (error as Error).message });
      }
    }
    response.status(502).json({ error: `${service} does not answer` });
  };
}

function ask(target: string, request: Request, timeoutMs: number): Promise<IncomingMessage> {
  const headers: OutgoingHttpHeaders = { ...request.headers };
  for (const name of [...HOP_BY_HOP, "host"]) delete headers[name];
  headers["x-forwarded-for"] = request.ips.concat(request.socket.remoteAddress ?? "").join(", ");
  headers["x-forwarded-host"] = request.get("host");
  headers["x-forwarded-proto"] = request.protocol;
  return new Promise((resolve, reject) => {
    const onward = http.request(new URL(request.url, target), { agent, method: request.method, headers }, resolve);
    onward.setTimeout(timeoutMs, () => onward.destroy(new Error(`no answer in ${timeoutMs} ms`)));
    onward.on("error", reject);
    request.on("aborted", () => onward.destroy());
    request.pipe(onward);
  });
}

function pass(answer: IncomingMessage, response: Response): void {
  response.status(answer.statusCode ?? 502);
  for (const [name, value] of Object.entries(answer.headers)) {
    if (value !== undefined && !HOP_BY_HOP.includes(name)) response.set(name, value);
  }
  answer.on("error", () => response.destroy());
  answer.pipe(response);
}
