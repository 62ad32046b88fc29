import bcrypt from "bcrypt";
import { createHash } from "node:crypto";
import type { Hasher } from "./kit/passwords.js";

const ROUNDS = 12;

// bcrypt reads 72 bytes and no more: a digest of the password is shorter, and covers all of it.
const shorten = (password: string) => createHash("sha384").update(password.normalize("NFKC")).digest("base64");

/** bcrypt, a native module. */
export const bcryptHasher: Hasher = {
  hash: (password) => bcrypt.hash(shorten(password), ROUNDS),
  matches: (password, hash) => bcrypt.compare(shorten(password), hash),
};
