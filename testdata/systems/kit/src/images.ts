import { spawn } from "node:child_process";
import { HttpError } from "./errors.js";

/** The formats that are taken, by the bytes that they begin with: names and headers may lie. */
const FORMATS: { type: string; matches: (bytes: Buffer) => boolean }[] = [
  { type: "jpeg", matches: (bytes) => bytes.subarray(0, 3).equals(Buffer.from([0xff, 0xd8, 0xff])) },
  { type: "png", matches: (bytes) => bytes.subarray(0, 8).equals(Buffer.from("\x89PNG\r\n\x1a\n", "latin1")) },
  { type: "gif", matches: (bytes) => /^GIF8[79]a/.test(bytes.toString("latin1", 0, 6)) },
  { type: "webp", matches: (bytes) => /^RIFF.{4}WEBP/s.test(bytes.toString("latin1", 0, 12)) },
];

/** The format of an image that is taken, or 415. */
export function imageType(bytes: Buffer): string {
  const format = FORMATS.find((format) => format.matches(bytes));
  if (!format) throw new HttpError(415, "only JPEG, PNG, GIF and WebP are taken");
  return format.type;
}

/**
 * The output of a program that reads `input`: no shell, no file name of a user, ten seconds.
 * Rejects with 422 if the program fails and with 501 if it is not installed.
 */
export function filter(program: string, args: string[], input: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { timeout: 10_000, stdio: ["pipe", "pipe", "pipe"] });
    const output: Buffer[] = [];
    let complaint = "";
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => (complaint = (complaint + chunk).slice(0, 500)));
    // A program that has seen enough stops reading.
    child.stdin.on("error", () => undefined);
    child.on("error", (error: NodeJS.ErrnoException) => {
      reject(error.code === "ENOENT" ? new HttpError(501, `${program} is not installed`) : error);
    });
    child.on("close", (code) => {
      if (code === 0) resolve(Buffer.concat(output));
      else reject(new HttpError(422, `the file cannot be read: ${complaint.split("\n")[0] || program}`));
    });
    child.stdin.end(input);
  });
}

/** ImageMagick's `convert`, within limits that no image of ours needs. */
function convert(type: string, args: string[], output: string, input: Buffer): Promise<Buffer> {
  const limits = ["-limit", "memory", "128MiB", "-limit", "map", "256MiB", "-limit", "disk", "0", "-limit", "area", "50MP"];
  // The first frame only, and no metadata: photographs tell where they were taken.
  return filter("convert", [...limits, `${type}:-[0]`, "-auto-orient", "-strip", ...args, `${output}:-`], input);
}

/** An image at most `width` wide, as WebP. */
export function resize(bytes: Buffer, width: number): Promise<Buffer> {
  return convert(imageType(bytes), ["-resize", `${width}x>`], "webp", bytes);
}

/** The middle of an image as a square of `side` pixels, as WebP. */
export function square(bytes: Buffer, side: number): Promise<Buffer> {
  const size = `${side}x${side}`;
  return convert(imageType(bytes), ["-resize", `${size}^`, "-gravity", "center", "-extent", size], "webp", bytes);
}
