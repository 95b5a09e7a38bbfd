/**
 * What a certificate is for: DNS names and IP addresses, in the one form in which they are compared and sent.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-9.7.7 | RFC 8555 §9.7.7}
 * @see {@link https://www.rfc-editor.org/rfc/rfc8738#section-3 | RFC 8738 §3}
 */
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { AppError } from '../../core/errors.ts';
import { parseHostnamePattern } from '../../core/hostname.ts';

const MAX_VALUE = 255;
/** Let's Encrypt and most others take no more in one certificate. */
export const MAX_IDENTIFIERS = 100;

/** As a CA sends them: of types that we know and of others. */
export const identifierSchema = z.object({ type: z.string().max(32), value: z.string().max(MAX_VALUE) });
export type Identifier = z.output<typeof identifierSchema>;

export interface NamesOfCertificate {
  /** Canonical hostnames and `*.parent`. */
  hostnames: string[];
  /** As in RFC 5952. */
  addresses: string[];
}

/** @throws AppError INVALID_INPUT for what no certificate can be ordered for. */
export function namesOf(identifiers: readonly Identifier[]): NamesOfCertificate {
  if (identifiers.length === 0) throw fault('an order needs at least one name');
  if (identifiers.length > MAX_IDENTIFIERS)
    throw fault(`${identifiers.length} names; at most ${MAX_IDENTIFIERS} fit in one certificate`);
  const canonical = identifiers.map(canonicalIdentifier);
  const valuesOf = (type: string) => canonical.flatMap((each) => (each.type === type ? [each.value] : []));
  return { hostnames: valuesOf('dns'), addresses: valuesOf('ip') };
}

/** @throws AppError INVALID_INPUT for another type, or a value that is not of its type. */
export function canonicalIdentifier({ type, value }: Identifier): Identifier {
  const canonical = type === 'dns' ? parseHostnamePattern(value) : addressOf(type, value);
  if (canonical === undefined) throw fault(`${type} ${value} is neither a DNS name nor an IP address`);
  return { type, value: canonical };
}

function addressOf(type: string, value: string): string | undefined {
  if (type !== 'ip' || value.includes('%')) return undefined;
  if (ipaddr.IPv4.isValidFourPartDecimal(value)) return value;
  return ipaddr.IPv6.isValid(value) ? ipaddr.IPv6.parse(value).toRFC5952String() : undefined;
}

/** In network byte order, 4 or 16 bytes. */
export const addressBytes = (address: string): Uint8Array =>
  Uint8Array.from(ipaddr.parse(address).toByteArray());

const fault = (message: string): AppError => new AppError('INVALID_INPUT', message);
