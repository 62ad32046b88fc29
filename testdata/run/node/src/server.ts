import express, { Request, Response } from "express";

const app = express();

app.get("/health", (_request: Request, response: Response) => {
  response.json({ status: "ok", service: "node" });
});

app.listen(Number(process.env.PORT ?? 8080));
