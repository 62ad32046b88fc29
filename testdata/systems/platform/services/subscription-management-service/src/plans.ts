export interface Plan {
  id: string;
  name: string;
  /** Cents for each month. */
  price: number;
  currency: string;
}

export const PLANS: Plan[] = [
  { id: "free", name: "Free", price: 0, currency: "eur" },
  { id: "team", name: "Team", price: 1900, currency: "eur" },
  { id: "company", name: "Company", price: 9900, currency: "eur" },
];

const DAY = 86_400_000;
const PERIOD_DAYS = 30;

/** What is owed for changing from one plan to another in the middle of a period. Never negative. */
export function difference(from: Plan, to: Plan, periodEnds: Date, now: Date): number {
  const left = Math.max(0, Math.min(1, (periodEnds.getTime() - now.getTime()) / (PERIOD_DAYS * DAY)));
  return Math.max(0, Math.round((to.price - from.price) * left));
}

/** When a period that begins now ends. */
export function periodEnd(now: Date): Date {
  return new Date(now.getTime() + PERIOD_DAYS * DAY);
}
