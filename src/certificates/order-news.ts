/**
 * What the log is told of an order: one record for each of its names, which names no other, since whoever is confined to
 * a hostname reads its records. What a text says of another name is left out there. Pure.
 */
import { cleanText } from '../core/untrusted.ts';
import type { StoredOrder } from './order-rows.ts';
import type { Step } from './orders.ts';

export interface News {
  readonly hostname: string;
  readonly message: string;
}

/** Of an order that is over. */
export const doneNews = ({ id, certificateId, document: { names, issuer } }: StoredOrder): News[] =>
  names.map((hostname) => ({
    hostname,
    message:
      certificateId === undefined
        ? `${id} for ${hostname} at ${issuer} was cancelled`
        : `${certificateId} for ${hostname} by ${issuer}`,
  }));

/** Of an attempt that failed or was put off. `now`: for one that is tried again at once. */
export function setbackNews({ id, document: { names } }: StoredOrder, step: Step, now: number): News[] {
  const { text = '', ca_words: words } = step.event ?? {};
  const next = new Date(step.nextAttemptAt ?? now).toISOString();
  return names.map((hostname) => {
    const others = names.filter((name) => name !== hostname);
    const what = isSilentOn(others, text)
      ? text
      : `another of the ${names.length} names of ${id} holds it up`;
    const said =
      words === undefined || !isSilentOn(others, words) ? '' : `; the CA says: ${cleanText(words)}`;
    return { hostname, message: `no certificate yet for ${hostname}: ${what}${said}; next attempt ${next}` };
  });
}

/** Where one name is part of another, too much is left out rather than too little. */
export function isSilentOn(names: readonly string[], text: string): boolean {
  const lower = text.toLowerCase();
  return names.every((name) => !lower.includes(name.replace(/^\*\./, '')));
}
