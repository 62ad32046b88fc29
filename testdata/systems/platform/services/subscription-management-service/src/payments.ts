import { randomUUID } from "node:crypto";

export interface Charge {
  id: string;
  amount: number;
  currency: string;
  paid: boolean;
  reason?: string;
}

/** Who takes money. A real one is another implementation of this, chosen in app.ts. */
export interface PaymentProvider {
  readonly name: string;
  /** Takes `amount` cents. The same `key` never takes money twice. */
  charge(method: string, amount: number, currency: string, key: string): Promise<Charge>;
}

/** Takes no money. The card that ends in 0002 is declined, as the test cards of real providers are. */
export class FakePayments implements PaymentProvider {
  readonly name = "fake";
  readonly #charges = new Map<string, Charge>();

  async charge(method: string, amount: number, currency: string, key: string): Promise<Charge> {
    const before = this.#charges.get(key);
    if (before) return before;
    const declined = method.endsWith("0002");
    const charge = {
      id: `ch_${randomUUID()}`,
      amount,
      currency,
      paid: !declined,
      ...(declined && { reason: "the card was declined" }),
    };
    this.#charges.set(key, charge);
    return charge;
  }
}
