/** One JSON object a line on standard output: what collectors read. */
export function log(level: "info" | "warn" | "error", message: string, fields: object = {}): void {
  console.log(JSON.stringify({ time: new Date().toISOString(), level, message, ...fields }));
}
