/**
 * Text that strangers wrote (paths, user agents, upstream errors, container names) on its way to a model, a
 * terminal or a log: control characters, bidirectional overrides, invisible tags and lone surrogates are taken out,
 * and it is cut to a length. Results that carry such text say so by `untrusted` on the operation.
 */
import { limits } from './limits.ts';

const DANGEROUS =
  // C0 and C1 controls, soft hyphen, zero width and bidirectional marks, line separators, tags, lone surrogates.
  /[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|\p{Surrogate}/gu;

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
