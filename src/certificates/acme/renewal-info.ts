/**
 * ARI: when the CA would like a certificate to be renewed.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9773#section-4.2 | RFC 9773 §4.2 and §4.3}
 */
import { z } from 'zod';
import { DAY, HOUR, MINUTE } from '../../core/clock.ts';
import { certificateId } from './certificate-id.ts';
import { AcmeFault } from './fault.ts';
import { readJson, requireSuccess } from './reply.ts';
import type { Call, Session } from './session.ts';

const MAX_URL = 2_048;
/** What the CA says is taken between these. @see RFC 9773 §4.3.2 */
export const MIN_CHECK_MS = MINUTE;
export const MAX_CHECK_MS = DAY;
const DEFAULT_CHECK_MS = 6 * HOUR;

const time = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));
const renewalInfoSchema = z.object({
  suggestedWindow: z.object({ start: time, end: time }),
  explanationURL: z
    .url({ protocol: /^https?$/ })
    .max(MAX_URL)
    .optional()
    .catch(undefined),
});

export interface RenewalInfo {
  /** Milliseconds since 1970; a time in the past means now. `end` is after `start`. */
  start: number;
  end: number;
  /** For a person, when the window is unusual. */
  explanationUrl: string | undefined;
  /** When to ask again. */
  checkAgainMs: number;
}

/** Undefined when the CA has none, or the certificate can't be asked about. @throws AcmeProblem, AcmeFault */
export async function renewalInfo(
  session: Session,
  certificatePem: string,
  call: Call,
): Promise<RenewalInfo | undefined> {
  const { renewalInfo: base } = await session.directory(call);
  const id = certificateId(certificatePem);
  if (base === undefined || id === undefined) return undefined;
  const url = `${base.replace(/\/$/, '')}/${id}`;
  const reply = requireSuccess(await session.get(url, call));
  const { suggestedWindow, explanationURL } = readJson(reply, renewalInfoSchema);
  const { start, end } = suggestedWindow;
  if (end <= start)
    throw new AcmeFault('malformed_reply', `${url} suggests a window that ends before it begins`);
  const checkAgainMs = Math.min(Math.max(reply.retryAfterMs ?? DEFAULT_CHECK_MS, MIN_CHECK_MS), MAX_CHECK_MS);
  return { start, end, explanationUrl: explanationURL, checkAgainMs };
}
