import type { ErrorRequestHandler, RequestHandler } from "express";
import { z } from "zod";
import { log } from "./log.js";

/** An answer other than success. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** A document that breaks a key which must be unique. */
export class ConflictError extends HttpError {
  constructor(what: string) {
    super(409, `${what} exists already`);
  }
}

/** The body as a schema reads it, or 400 with what is wrong. */
export function body<S extends z.ZodTypeAny>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join(".") || "body"}: ${issue.message}`);
  throw new HttpError(400, problems.join("; "));
}

export const notFound: RequestHandler = (request) => {
  throw new HttpError(404, `there is no ${request.method} ${request.path}`);
};

/** Errors as JSON. What we did not expect is logged whole and told as nothing but "internal". */
export const answerErrors: ErrorRequestHandler = (error, request, response, next) => {
  if (response.headersSent) return next(error);
  const tooLarge = error?.code === "LIMIT_FILE_SIZE"; // of multer, whose errors carry no status
  const status = tooLarge ? 413 : Number(error?.status ?? error?.statusCode ?? 500);
  if (status >= 500) log("error", "request failed", { path: request.path, error: String(error?.stack ?? error) });
  response.status(status).json({ error: status === 500 ? "internal error" : error.message });
};
