import { randomBytes } from "node:crypto";
import type { RequestHandler } from "express";
import { log } from "./log.js";

/**
 * One span a request, sent as OTLP over HTTP with JSON, which Jaeger and every collector take. The
 * parent comes from `traceparent`. Without an endpoint, nothing is measured and nothing is sent.
 */
export function tracing(service: string, endpoint: string | undefined): RequestHandler {
  if (!endpoint) return (_request, _response, next) => next();
  const waiting: object[] = [];
  const send = async () => {
    const spans = waiting.splice(0);
    if (spans.length === 0) return;
    const resource = { attributes: [{ key: "service.name", value: { stringValue: service } }] };
    const message = { resourceSpans: [{ resource, scopeSpans: [{ scope: { name: "systems-kit" }, spans }] }] };
    await fetch(new URL("/v1/traces", endpoint), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(message),
      signal: AbortSignal.timeout(5000),
    }).catch((error: Error) => log("warn", "spans were not taken", { error: error.message }));
  };
  setInterval(send, 2000).unref();

  return (request, response, next) => {
    const start = process.hrtime.bigint();
    const startTime = BigInt(Date.now()) * 1_000_000n;
    const [, traceId, parentSpanId] = (request.get("traceparent") ?? "").split("-");
    response.on("close", () => {
      const end = startTime + (process.hrtime.bigint() - start);
      waiting.push({
        traceId: traceId ?? randomBytes(16).toString("hex"),
        spanId: randomBytes(8).toString("hex"),
        parentSpanId,
        name: `${request.method} ${request.route?.path ?? request.path}`,
        kind: 2,
        startTimeUnixNano: String(startTime),
        endTimeUnixNano: String(end),
        attributes: [{ key: "http.response.status_code", value: { intValue: response.statusCode } }],
      });
      if (waiting.length > 512) waiting.shift();
    });
    next();
  };
}
