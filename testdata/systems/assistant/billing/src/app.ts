import { randomBytes } from "node:crypto";
import express from "express";
import Stripe from "stripe";
import { z } from "zod";
import { openClient } from "./generated/client.js";
import { ConflictError, HttpError, body } from "./kit/errors.js";
import { log } from "./kit/log.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { identityOf } from "./kit/tokens.js";
import { FakePayments, StripePayments, type PaymentProvider } from "./provider.js";

const own = common.extend({
  STRIPE_SECRET_KEY: z.string().optional(),
  STRIPE_WEBHOOK_SECRET: z.string().optional(),
});

const order = z.object({ price: z.string().min(1).max(100) });

function provider(key: string | undefined): PaymentProvider {
  if (key) return new StripePayments(key);
  log("warn", "STRIPE_SECRET_KEY is not set: no money is taken");
  return new FakePayments();
}

/** The key that reports are signed with. Without one every report is refused. */
function webhookKey(secret: string | undefined): string {
  if (secret) return secret;
  log("warn", "STRIPE_WEBHOOK_SECRET is not set: every report is refused");
  return randomBytes(32).toString("hex");
}

/** The whole service, from its environment. */
export async function createBilling(environment: NodeJS.ProcessEnv): Promise<Running> {
  const settings = read(own, { PORT: "3003", ...environment });
  const payments = provider(settings.STRIPE_SECRET_KEY);
  const secret = webhookKey(settings.STRIPE_WEBHOOK_SECRET);
  return assemble({
    name: "billing",
    issuer: "assistant",
    settings,
    // Before bodies are read as JSON: the signature is over the bytes.
    first: (app, { database }) => {
      const { checkout: checkouts, report: reports } = openClient(database);
      app.post("/webhooks/stripe", express.raw({ type: "application/json" }), async (request, response) => {
        const signature = request.get("stripe-signature") ?? "";
        let event: Stripe.Event;
        try {
          event = Stripe.webhooks.constructEvent(request.body as Buffer, signature, secret);
        } catch (error) {
          if (!(error instanceof Stripe.errors.StripeSignatureVerificationError)) throw error;
          throw new HttpError(400, "the signature does not fit");
        }
        // Reports may come twice.
        const isNew = await reports.create({ id: event.id }).then(
          () => true,
          (error) => {
            if (error instanceof ConflictError) return false;
            throw error;
          },
        );
        if (isNew && event.type === "checkout.session.completed") {
          await checkouts.update(event.data.object.id, { status: "paid" });
        }
        response.json({ received: true, new: isNew });
      });
    },
    routes: (app, { database, tokens }) => {
      const { checkout: checkouts } = openClient(database);
      app.use("/checkouts", tokens.required());

      app.post("/checkouts", async (request, response) => {
        const { price } = body(order, request.body);
        const account = identityOf(response).id;
        const page = await payments.checkout(account, price, settings.CLIENT_URL);
        response.status(201).json(await checkouts.create({ ...page, account, price }));
      });

      app.get("/checkouts/:id", async (request, response) => {
        const checkout = await checkouts.get(String(request.params["id"]));
        if (checkout?.account !== identityOf(response).id) throw new HttpError(404, "no such checkout");
        response.json(checkout);
      });
    },
  });
}
