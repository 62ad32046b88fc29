import { randomUUID } from "node:crypto";
import Stripe from "stripe";

export interface CheckoutPage {
  id: string;
  url: string;
}

/** Who takes money. */
export interface PaymentProvider {
  readonly name: string;
  /** A page on which the account may pay the price. */
  checkout(account: string, price: string, back: string): Promise<CheckoutPage>;
}

/** Takes no money: its page is the client's own, and nobody ever reports a payment by himself. */
export class FakePayments implements PaymentProvider {
  readonly name = "fake";

  async checkout(_account: string, _price: string, back: string): Promise<CheckoutPage> {
    const id = `cs_fake_${randomUUID()}`;
    return { id, url: `${back}/pay/${id}` };
  }
}

/** Stripe. */
export class StripePayments implements PaymentProvider {
  readonly name = "stripe";
  readonly #stripe: Stripe;

  constructor(key: string) {
    this.#stripe = new Stripe(key, { maxNetworkRetries: 2, timeout: 10_000 });
  }

  async checkout(account: string, price: string, back: string): Promise<CheckoutPage> {
    const session = await this.#stripe.checkout.sessions.create({
      mode: "subscription",
      client_reference_id: account,
      line_items: [{ price, quantity: 1 }],
      success_url: `${back}/paid`,
      cancel_url: `${back}/cancelled`,
    });
    return { id: session.id, url: session.url ?? back };
  }
}
