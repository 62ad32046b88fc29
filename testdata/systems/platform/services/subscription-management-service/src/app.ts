import { z } from "zod";
import { HttpError, body } from "./kit/errors.js";
import { assemble, type Running } from "./kit/running.js";
import { common, read } from "./kit/settings.js";
import { identityOf } from "./kit/tokens.js";
import { FakePayments, type Charge, type PaymentProvider } from "./payments.js";
import { PLANS, difference, periodEnd, type Plan } from "./plans.js";

/** One person's subscription; its id is that of the person. */
interface Subscription {
  id: string;
  plan: string;
  status: "active" | "cancelled";
  periodEnds: string;
}

interface Invoice extends Charge {
  account: string;
  plan: string;
  at: string;
}

const order = z.object({ plan: z.string(), paymentMethod: z.string().min(4).max(64).optional() });

function planOf(id: string): Plan {
  const plan = PLANS.find((plan) => plan.id === id);
  if (!plan) throw new HttpError(404, `there is no plan ${id}`);
  return plan;
}

/** The whole service, from its environment. */
export async function createSubscriptions(
  environment: NodeJS.ProcessEnv,
  payments: PaymentProvider = new FakePayments(),
): Promise<Running> {
  const settings = read(common, { PORT: "3003", ...environment });
  return assemble({
    name: "subscription-management-service",
    issuer: "platform",
    settings,
    routes: (app, { database, tokens }) => {
      const subscriptions = database.collection<Subscription>("subscriptions");
      const invoices = database.collection<Invoice>("invoices");

      app.get("/plans", (_request, response) => void response.json(PLANS));
      app.use("/subscription", tokens.required());

      app.get("/subscription", async (_request, response) => {
        const subscription = await subscriptions.get(identityOf(response).id);
        if (!subscription) throw new HttpError(404, "no subscription");
        response.json(subscription);
      });

      app.put("/subscription", async (request, response) => {
        const { id } = identityOf(response);
        const { plan: wanted, paymentMethod } = body(order, request.body);
        const plan = planOf(wanted);
        const now = new Date();
        const current = await subscriptions.get(id);
        const isRunning = current?.status === "active" && new Date(current.periodEnds) > now;
        const ends = isRunning ? new Date(current.periodEnds) : periodEnd(now);
        const amount = isRunning ? difference(planOf(current.plan), plan, ends, now) : plan.price;
        if (amount > 0) {
          if (!paymentMethod) throw new HttpError(402, "this plan needs a payment method");
          // A request that is sent again takes no money again; another card is another try.
          const key = [id, plan.id, ends.toISOString().slice(0, 10), paymentMethod].join(":");
          const charge = await payments.charge(paymentMethod, amount, plan.currency, key);
          if (!charge.paid) throw new HttpError(402, charge.reason ?? "not paid");
          if (!(await invoices.get(charge.id))) {
            await invoices.insert({ ...charge, account: id, plan: plan.id, at: now.toISOString() });
          }
        }
        const changed = { plan: plan.id, status: "active" as const, periodEnds: ends.toISOString() };
        const updated = await subscriptions.update(id, changed);
        response.status(updated ? 200 : 201).json(updated ?? (await subscriptions.insert({ id, ...changed })));
      });

      app.delete("/subscription", async (_request, response) => {
        const updated = await subscriptions.update(identityOf(response).id, { status: "cancelled" });
        if (!updated) throw new HttpError(404, "no subscription");
        response.json(updated);
      });

      app.get("/subscription/invoices", async (_request, response) => {
        response.json(await invoices.find({ account: identityOf(response).id }));
      });
    },
  });
}
