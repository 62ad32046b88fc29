import { randomUUID } from "node:crypto";
import type { RequestHandler, Response } from "express";
import { SignJWT, errors, jwtVerify } from "jose";
import { HttpError } from "./errors.js";

/** Who makes a request. */
export interface Identity {
  id: string;
  role: string;
}

/** Signed tokens (JWT, HS256). */
export class Tokens {
  constructor(
    private readonly key: Uint8Array,
    private readonly issuer: string,
  ) {}

  /** A token of one use ("access", "refresh") for `lifetime`, such as 24h. */
  async sign(identity: Identity, use: string, lifetime: string): Promise<string> {
    return new SignJWT({ role: identity.role, use })
      .setProtectedHeader({ alg: "HS256" })
      .setSubject(identity.id)
      .setIssuer(this.issuer)
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime(lifetime)
      .sign(this.key);
  }

  /** What a token says, or 401. A token made for another use is refused. */
  async verify(token: string, use: string): Promise<Identity & { jti: string; expires: number }> {
    try {
      const { payload } = await jwtVerify(token, this.key, { issuer: this.issuer, algorithms: ["HS256"] });
      const { sub, role, jti, exp } = payload;
      if (payload["use"] !== use || !sub || !jti || typeof role !== "string") throw new HttpError(401, "this token is for something else");
      return { id: sub, role, jti, expires: exp ?? 0 };
    } catch (error) {
      if (error instanceof errors.JOSEError) throw new HttpError(401, `the token is not valid: ${error.message}`);
      throw error;
    }
  }

  /** Lets only requests with an access token pass. */
  required(): RequestHandler {
    return async (request, response, next) => {
      const [scheme, token] = (request.get("authorization") ?? "").split(" ");
      if (scheme?.toLowerCase() !== "bearer" || !token) throw new HttpError(401, "an access token is required");
      response.locals["identity"] = await this.verify(token, "access");
      next();
    };
  }
}

/** Who makes the request, behind [`Tokens.required`]. */
export function identityOf(response: Response): Identity {
  return response.locals["identity"] as Identity;
}
