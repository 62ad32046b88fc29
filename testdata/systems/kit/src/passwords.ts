import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";

/** How passwords are kept. */
export interface Hasher {
  hash(password: string): Promise<string>;
  matches(password: string, hash: string): Promise<boolean>;
}

// The cost that OWASP asks for: 64 MiB and about 100 ms.
const COST = { N: 2 ** 16, r: 8, p: 2, maxmem: 128 * 1024 * 1024 };

function derive(password: string, salt: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password.normalize("NFKC"), salt, 32, COST, (error, key) => (error ? reject(error) : resolve(key)));
  });
}

/** scrypt of Node's own crypto, with a salt for each password. */
export const scryptHasher: Hasher = {
  async hash(password) {
    const salt = randomBytes(16);
    return `scrypt$${salt.toString("base64url")}$${(await derive(password, salt)).toString("base64url")}`;
  },
  async matches(password, hash) {
    const [scheme, salt, key] = hash.split("$");
    if (scheme !== "scrypt" || !salt || !key) return false;
    const expected = Buffer.from(key, "base64url");
    const derived = await derive(password, Buffer.from(salt, "base64url"));
    return expected.length === derived.length && timingSafeEqual(expected, derived);
  },
};
