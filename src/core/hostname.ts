/**
 * The one canonical form of a hostname: lower case, punycode, no trailing dot, no port. Everything that compares
 * hostnames (match, confinement, certificates, targets) compares this form and nothing else.
 */
import { domainToASCII } from 'node:url';

/** @see {@link https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4 | RFC 1035 §2.3.4} */
const MAX_HOSTNAME_LENGTH = 253;
const LABEL = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/;
/** Letters, digits, hyphens and dots, or non-ASCII for IDNA; anything else never reaches the IDNA mapping. */
const PLAUSIBLE = /^[A-Za-z0-9.\-\u0080-\u{10ffff}]+$/u;

/** The canonical form of an exact hostname, or undefined when it is not one. IP addresses are not hostnames. */
export function parseHostname(text: string): string | undefined {
  if (text.length > MAX_HOSTNAME_LENGTH + 1 || !PLAUSIBLE.test(text)) return undefined;
  const ascii = domainToASCII(text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase();
  if (ascii === '' || ascii.length > MAX_HOSTNAME_LENGTH) return undefined;
  const labels = ascii.split('.');
  if (!labels.every((label) => LABEL.test(label))) return undefined;
  // A last label of digits only is how an IPv4 address is spelled, in any of its forms.
  return /^(?:\d+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '') ? undefined : ascii;
}

/** The canonical form of `host.example.com` or `*.example.com`, or undefined when it is neither. */
export function parseHostnamePattern(text: string): string | undefined {
  if (!text.startsWith('*.')) return parseHostname(text);
  const parent = parseHostname(text.slice(2));
  return parent === undefined ? undefined : `*.${parent}`;
}

/** `*.example.com` covers one label more, as in a certificate. Both sides have to be canonical. @see RFC 9525 §6.3 */
export function coversHostname(pattern: string, hostname: string): boolean {
  if (pattern === hostname) return true;
  if (!pattern.startsWith('*.')) return false;
  const dot = hostname.indexOf('.');
  return dot > 0 && hostname.slice(dot) === pattern.slice(1);
}

/**
 * Confinement: `*.dev.example.com` lets a principal touch every name below it, at any depth, wildcards included.
 * Wider than `coversHostname` on purpose: who owns a zone owns what is below it.
 */
export function confines(confinement: string, pattern: string): boolean {
  if (confinement === pattern) return true;
  return confinement.startsWith('*.') && pattern.endsWith(confinement.slice(1));
}

/** `*.example.com` for `app.example.com`. */
export const wildcardOver = (hostname: string): string => `*${hostname.slice(hostname.indexOf('.'))}`;
