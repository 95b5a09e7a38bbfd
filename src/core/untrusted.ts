/**
 * Text that strangers wrote (paths, user agents, upstream errors, container names) on its way to a model, a
 * terminal or a log: control characters, bidirectional overrides, everything that is not drawn and lone surrogates are taken out,
 * and it is cut to a length. Results that carry such text say so by `untrusted` on the operation, and who
 * has read one is under the taint rule (`taint.ts`).
 */
import { AppError, type ErrorCode, messageOf } from './errors.ts';
import { limits } from './limits.ts';
import type { AnyOperation } from './operation.ts';

const DANGEROUS =
  // C0 and C1 controls, line separators, annotations; what is not drawn, such as zero width and bidirectional marks,
  // fillers, tags and variation selectors, in which whole sentences can be hidden (UAX #44); lone surrogates.
  /[\p{Cc}\p{Zl}\p{Zp}\ufff9-\ufffb\p{Default_Ignorable_Code_Point}]|\p{Surrogate}/gu;

export function cleanText(text: string, maxLength: number = limits.untrustedText): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(DANGEROUS, '\ufffd');
}

/** Lines stay lines; everything else as `cleanText`. For output of programs. */
export function cleanLines(text: string, maxLength: number): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut
    .replace(/\r\n?/g, '\n')
    .replace(DANGEROUS, (found) => (found === '\n' || found === '\t' ? found : '\ufffd'));
}

/** Errors of what somebody else answered: where results hold text of strangers, so may their messages. */
const QUOTING: ReadonlySet<ErrorCode> = new Set(['UPSTREAM_FAILED', 'UNAVAILABLE', 'TIMEOUT']);

/** `operation`: whose; undefined when none was found. An error that says that it quotes does so whosever it is. */
export const quotesStrangers = (
  { code, isQuoting }: Pick<AppError, 'code' | 'isQuoting'>,
  operation: Pick<AnyOperation, 'untrusted'> | undefined,
): boolean => isQuoting || (operation?.untrusted === true && QUOTING.has(code));

/** How Node begins to tell what is in the certificate of who was asked. */
const NAMES_OF_CERTIFICATE = /( is not (?:in the )?cert's (?:altnames|list|CN)):.*/s;

/** A message of TLS without the names in a certificate, which whoever made it wrote. */
export const withoutCertificateNames = (message: string): string =>
  message.replace(NAMES_OF_CERTIFICATE, '$1');

/** Of a failure, for an answer that is not marked: nothing in it that somebody else said. */
export function ownWordsOf(cause: unknown): string {
  if (cause instanceof AppError && cause.isQuoting) return `${cause.code}; its words are left out here`;
  return cleanText(withoutCertificateNames(messageOf(cause)));
}
