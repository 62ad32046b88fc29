import type { RequestHandler } from "express";
import { HttpError } from "./kit/errors.js";
import { identityOf } from "./kit/tokens.js";

export const ROLES = ["member", "editor", "admin"] as const;
export type Role = (typeof ROLES)[number];

export type Permission = "profiles:read" | "profiles:write-any" | "profiles:list" | "roles:assign";

const GRANTS = new Map<string, Permission[]>([
  ["member", ["profiles:read"]],
  ["editor", ["profiles:read", "profiles:list", "profiles:write-any"]],
  ["admin", ["profiles:read", "profiles:list", "profiles:write-any", "roles:assign"]],
] satisfies [Role, Permission[]][]);

/** Whether a role grants a permission; a role that we do not know grants nothing. */
export function grants(role: string, permission: Permission): boolean {
  return GRANTS.get(role)?.includes(permission) ?? false;
}

/** Lets only those pass whose role grants the permission, or who ask about themselves. */
export function permit(permission: Permission, orSelf = false): RequestHandler {
  return (request, response, next) => {
    const { id, role } = identityOf(response);
    if (!grants(role, permission) && !(orSelf && request.params["id"] === id)) {
      throw new HttpError(403, `this needs ${permission}`);
    }
    next();
  };
}
