/** What a certificate says of itself, read with care: subject and issuer were written by strangers. */
import type { X509Certificate } from 'node:crypto';
import { toTimestamp } from '../core/collection.ts';
import { parseHostnamePattern } from '../core/hostname.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Certificate } from './schema.ts';

export function factsOf(certificate: X509Certificate): Omit<Certificate, 'id' | 'source' | 'version'> {
  return {
    names: hostnamesOf(certificate),
    issuer: oneLine(certificate.issuer),
    not_before: toTimestamp(certificate.validFromDate.getTime()),
    not_after: toTimestamp(certificate.validToDate.getTime()),
    serial: certificate.serialNumber,
    fingerprint_sha256: certificate.fingerprint256,
  };
}

export const oneLine = (name: string): string => cleanText(name.split('\n').join(', '));

/** One `Type:value` of the list; a value with a comma or a quote in it comes quoted. */
const ENTRY = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/y;

/**
 * The DNS names that can be served: canonical, each once. Names of other kinds and names that are not hostnames are
 * left out; of a list that can't be read to its end nothing is believed.
 */
export function hostnamesOf({ subjectAltName: text }: X509Certificate): string[] {
  const names = new Set<string>();
  let position = 0;
  while (text !== undefined && position < text.length) {
    ENTRY.lastIndex = position;
    const [, type, value = ''] = ENTRY.exec(text) ?? [];
    if (type === undefined) return [];
    position = ENTRY.lastIndex;
    const name = type === 'DNS' ? parseHostnamePattern(value) : undefined;
    if (name !== undefined) names.add(name);
  }
  return [...names];
}
