/** An order as it is told: the CA's words cleaned, the remedy from the table, times as text. Pure. */
import type { z } from 'zod';
import { toTimestamp } from '../core/collection.ts';
import { cleanText } from '../core/untrusted.ts';
import { type OrderEvent, type orderSchema } from './order-schema.ts';
import type { StoredOrder } from './order-rows.ts';
import { remedyFor } from './remedies.ts';

export type OrderReport = z.output<typeof orderSchema>;

/** Of the words of a CA, which may be thousands. */
const MAX_WORDS = 1000;
/** The latest events. */
const MAX_TOLD = 12;

export function reportOf({ id, state, document, certificateId, nextAttemptAt }: StoredOrder): OrderReport {
  const isOpen = state === 'waiting' || state === 'sending' || state === 'ordered';
  return {
    id,
    names: document.names,
    state,
    issuer: document.issuer,
    reason: document.reason,
    attempts: document.attempts,
    ...(certificateId !== undefined && { certificate_id: certificateId }),
    ...(isOpen && { next_attempt_at: toTimestamp(nextAttemptAt) }),
    timeline: document.events.slice(-MAX_TOLD).map(told),
  };
}

const told = ({ at, kind, text, ca_words: words, problem }: OrderEvent): OrderReport['timeline'][number] => ({
  at: toTimestamp(at),
  event: kind,
  text: cleanText(text),
  ...(words !== undefined && { ca_words: cleanText(words, MAX_WORDS) }),
  ...(problem !== undefined && { problem: cleanText(problem), remedy: remedyFor(problem).remedy }),
});
