import { randomUUID } from "node:crypto";
import { Router, type RequestHandler } from "express";
import { z } from "zod";
import type { Collection } from "./database.js";
import { HttpError, body } from "./errors.js";
import type { Hasher } from "./passwords.js";
import { Tokens, identityOf } from "./tokens.js";

export interface Account {
  id: string;
  email: string;
  password: string;
  role: string;
  createdAt: string;
}

const credentials = z.object({
  email: z.string().email().max(254).transform((text) => text.toLowerCase()),
  password: z.string().min(10).max(128),
});

export interface AccountOptions {
  accounts: Collection<Account>;
  hasher: Hasher;
  tokens: Tokens;
  lifetime: string;
  /** Before every attempt to register or log in. */
  limit: RequestHandler;
  /** The role of who registers; `member` without it. */
  roleOf?: (email: string) => string;
}

/** `POST /register`, `POST /login` and `GET /me`. */
export function accountRoutes({ accounts, hasher, tokens, lifetime, limit, roleOf }: AccountOptions): Router {
  const router = Router();
  // Compared with where there is no account, so that time does not tell which addresses exist.
  const nobody = hasher.hash(randomUUID());

  router.post("/register", limit, async (request, response) => {
    const { email, password } = body(credentials, request.body);
    const account = await accounts.insert({
      id: randomUUID(),
      email,
      password: await hasher.hash(password),
      role: roleOf?.(email) ?? "member",
      createdAt: new Date().toISOString(),
    });
    response.status(201).json(visible(account));
  });

  router.post("/login", limit, async (request, response) => {
    const { email, password } = body(credentials, request.body);
    const account = (await accounts.find({ email }))[0];
    const matches = await hasher.matches(password, account?.password ?? (await nobody));
    if (!account || !matches) throw new HttpError(401, "address or password is wrong");
    response.json({ token: await tokens.sign(account, "access", lifetime), user: visible(account) });
  });

  router.get("/me", tokens.required(), async (_request, response) => {
    const account = await accounts.get(identityOf(response).id);
    if (!account) throw new HttpError(401, "this account is gone");
    response.json(visible(account));
  });
  return router;
}

/** An account without its password. */
export function visible({ password: _, ...rest }: Account): Omit<Account, "password"> {
  return rest;
}
