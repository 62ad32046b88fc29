import { createServer } from "node:http";
import { Quotes } from "./quotes.js";
import { routes } from "./routes.js";
const port = Number(process.env["PORT"] ?? 3001);
const quotes = new Quotes();
quotes.add("Simplicity is prerequisite for reliability.", "Edsger W. Dijkstra");
const server = createServer(routes(quotes));
server.listen(port, () => console.log(`listening on port ${port}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => server.close(() => process.exit(0)));
}
//# sourceMappingURL=server.js.map