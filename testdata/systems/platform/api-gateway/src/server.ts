import { createGateway } from "./app.js";
import { run } from "./kit/service.js";

const { app, port, close } = await createGateway(process.env);
await run("api-gateway", app, port, close);
