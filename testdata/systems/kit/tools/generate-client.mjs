// Generates a typed client from the models of a Prisma schema:
//   node generate-client.mjs prisma/schema.prisma src/generated/client.ts
// It reads the part of the language that our schemas use: scalar fields, `?`, @id, @unique and
// @default(...). Prisma's own generator downloads engines while it runs; a build must not.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const [, , schemaFile, clientFile] = process.argv;
const TYPES = { String: "string", Int: "number", Float: "number", Boolean: "boolean", DateTime: "string" };
const DEFAULTS = { "cuid()": "randomUUID()", "uuid()": "randomUUID()", "now()": "new Date().toISOString()" };

const schema = readFileSync(schemaFile, "utf8").replace(/\/\/.*$/gm, "");
const models = [...schema.matchAll(/^model\s+(\w+)\s*\{([^}]*)\}/gm)].map(([, name, text]) => ({
  name,
  fields: text.trim().split("\n").map((line) => field(name, line.trim())),
}));
if (models.length === 0) throw new Error(`${schemaFile} has no model`);

function field(model, line) {
  const [, name, type, optional, attributes] = /^(\w+)\s+(\w+)(\??)\s*(.*)$/.exec(line) ?? [];
  if (!name || !TYPES[type]) throw new Error(`${schemaFile}: ${model}: cannot read "${line}"`);
  const value = /@default\((.*)\)/.exec(attributes)?.[1];
  return { name, type: TYPES[type], optional: optional === "?", unique: /@unique/.test(attributes), value: DEFAULTS[value] ?? value };
}

const lower = (name) => name[0].toLowerCase() + name.slice(1);
const interfaces = models.map(({ name, fields }) => {
  const lines = fields.map((one) => `  ${one.name}: ${one.type}${one.optional ? " | null" : ""};`);
  const given = fields.filter((one) => !one.value && !one.optional).map((one) => JSON.stringify(one.name));
  return `export interface ${name} {\n${lines.join("\n")}\n}\n/** What must be given for a new ${name}; the rest has defaults. */\nexport type New${name} = Partial<${name}> & Pick<${name}, ${given.join(" | ")}>;`;
});
const members = models.map(({ name, fields }) => {
  const unique = JSON.stringify(fields.filter((one) => one.unique).map((one) => one.name));
  const defaults = fields
    .filter((one) => one.value || one.optional)
    .map((one) => `${one.name}: ${one.value ?? "null"}`);
  return `    ${lower(name)}: table<${name}, New${name}>(database.collection<${name}>(${JSON.stringify(name)}, ${unique}), () => ({ ${defaults.join(", ")} })),`;
});

const uuid = members.some((one) => one.includes("randomUUID()")) ? 'import { randomUUID } from "node:crypto";\n' : "";

mkdirSync(dirname(clientFile), { recursive: true });
writeFileSync(
  clientFile,
  `// Generated from ${schemaFile} by tools/generate-client.mjs. Do not edit.
${uuid}import type { Collection, Database, Document } from "../kit/database.js";

${interfaces.join("\n\n")}

function table<T extends Document, N extends Partial<T>>(collection: Collection<T>, defaults: () => Partial<T>) {
  return Object.assign(collection, {
    create: (data: N): Promise<T> => collection.insert({ ...defaults(), ...data } as unknown as T),
  });
}

export type Client = ReturnType<typeof openClient>;

/** The tables of the schema. */
export function openClient(database: Database) {
  return {
${members.join("\n")}
  };
}
`,
);
