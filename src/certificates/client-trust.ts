/**
 * Whose certificates a hostname takes from its clients, read from what an owner gave: CAs up to their roots, and where
 * there are revocation lists, one of each CA, because OpenSSL then asks for all of a chain. What can't be read in whole
 * is not used in part. Called when it is written, told of, and before a handshake that asks for a certificate.
 */
import { hash, X509Certificate } from 'node:crypto';
import { toTimestamp } from '../core/collection.ts';
import { AppError, messageOf } from '../core/errors.ts';
import { oneLine } from './facts.ts';
import { maySignLists, readRevocationList, type RevocationList, subjectOf } from './revocation-list.ts';

/** Also of lists, of which each CA has one. */
const MAX_AUTHORITIES = 20;
/**
 * Of CAs and lists, together: each takes milliseconds where a key is large. Where names differ, or CAs name the key
 * above them, one is enough for each.
 */
const MAX_VERIFICATIONS = 80;
/** With each the text of its lists is kept. */
const MAX_REMEMBERED = 32;

/** @see {@link https://www.rfc-editor.org/rfc/rfc7468#section-3 | RFC 7468 §3} */
const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*)-----END \1-----/g;

export interface TrustPem {
  readonly ca_pem: string;
  readonly crl_pem?: string | undefined;
}

export interface TrustFacts {
  problem: string | null;
  authorities: { subject: string; not_after: string; fingerprint_sha256: string }[];
  revocation_lists: { issuer: string; next_update: string; revoked: number }[];
}

export interface Trust {
  /** The same for the same texts. */
  readonly key: string;
  /** Characters of the texts. */
  readonly size: number;
  readonly authorities: readonly X509Certificate[];
  readonly lists: readonly OwnedList[];
}

interface OwnedList {
  readonly pem: string;
  readonly list: Pick<RevocationList, 'thisUpdate' | 'revoked'> & { readonly nextUpdate: number };
  readonly authority: X509Certificate;
}

/** What came of reading: for the settings that handshakes are checked by, and by text for whoever else looks. */
const ofSettings = new WeakMap<TrustPem, Trust | AppError>();
const ofTexts = new Map<string, Trust | AppError>();

/** Whatever the time is; what was read is remembered. @throws AppError INVALID_INPUT that says what is wrong where. */
export function readClientTrust(pem: TrustPem): Trust {
  let found = ofSettings.get(pem);
  if (!found) {
    found = readTexts(pem);
    ofSettings.set(pem, found);
  }
  if (found instanceof AppError) throw found;
  return found;
}

function readTexts({ ca_pem, crl_pem }: TrustPem): Trust | AppError {
  const key = hash('sha256', JSON.stringify([ca_pem, crl_pem ?? '']));
  const found = ofTexts.get(key) ?? readWhole({ ca_pem, crl_pem }, key);
  ofTexts.delete(key);
  ofTexts.set(key, found);
  if (ofTexts.size > MAX_REMEMBERED) {
    const [oldest] = ofTexts.keys();
    if (oldest !== undefined) ofTexts.delete(oldest);
  }
  return found;
}

function readWhole({ ca_pem, crl_pem }: TrustPem, key: string): Trust | AppError {
  const tries = new Tries();
  try {
    const authorities = readAuthorities(ca_pem, tries);
    const lists = crl_pem === undefined ? [] : readLists(crl_pem, authorities, tries);
    return { key, size: ca_pem.length + (crl_pem?.length ?? 0), authorities, lists };
  } catch (cause) {
    if (cause instanceof AppError) return cause;
    throw cause;
  }
}

/** On write: `now` in milliseconds since 1970. @throws AppError INVALID_INPUT */
export function requireClientTrust(pem: TrustPem, now: number): void {
  const [lapse] = lapsesOf(readClientTrust(pem), now);
  if (lapse !== undefined) throw new AppError('INVALID_INPUT', `client_auth: ${lapse}`);
}

/** Before a handshake. What is over keeps its own clients out; where that is all of it, there is nothing to check by. */
export function usableClientTrust(pem: TrustPem, now: number): Trust {
  const trust = readClientTrust(pem);
  const { authorities, lists } = trust;
  const isUsable =
    authorities.some((one) => !isOver(one, now)) &&
    (lists.length === 0 || lists.some(({ list }) => isCurrent(list, now)));
  if (!isUsable) throw new AppError('PRECONDITION_FAILED', lapsesOf(trust, now).join('; '));
  return trust;
}

/** For whoever looks: never throws. */
export function describeClientTrust(pem: TrustPem, now: number): TrustFacts {
  try {
    const trust = readClientTrust(pem);
    const lapses = lapsesOf(trust, now);
    return { problem: lapses.length > 0 ? lapses.join('; ') : null, ...factsOf(trust) };
  } catch (cause) {
    return { problem: messageOf(cause), authorities: [], revocation_lists: [] };
  }
}

const factsOf = ({ authorities, lists }: Trust): Omit<TrustFacts, 'problem'> => ({
  authorities: authorities.map((authority) => ({
    subject: oneLine(authority.subject),
    not_after: toTimestamp(authority.validToDate.getTime()),
    fingerprint_sha256: authority.fingerprint256,
  })),
  revocation_lists: lists.map(({ list, authority }) => ({
    issuer: oneLine(authority.subject),
    next_update: toTimestamp(list.nextUpdate),
    revoked: list.revoked,
  })),
});

const isOver = ({ validToDate }: X509Certificate, now: number): boolean => validToDate.getTime() <= now;
const isCurrent = ({ thisUpdate, nextUpdate }: OwnedList['list'], now: number): boolean =>
  thisUpdate <= now && now < nextUpdate;

function lapsesOf({ authorities, lists }: Trust, now: number): string[] {
  return [
    ...authorities
      .filter((authority) => isOver(authority, now))
      .map((one) => `the CA ${oneLine(one.subject)} expired at ${toTimestamp(one.validToDate.getTime())}`),
    ...lists
      .filter(({ list }) => !isCurrent(list, now))
      .map(({ list: { thisUpdate, nextUpdate }, authority }) => {
        const name = `the revocation list of ${oneLine(authority.subject)}`;
        return thisUpdate > now
          ? `${name} counts only from ${toTimestamp(thisUpdate)}`
          : `${name} is over since ${toTimestamp(nextUpdate)}; get a new one from the CA`;
      }),
  ];
}

type Field = 'ca_pem' | 'crl_pem';
const fault = (field: Field, problem: string, cause?: unknown): AppError =>
  new AppError('INVALID_INPUT', `client_auth.${field}: ${problem}`, { cause });

function blocksOf(field: Field, text: string, label: string): { pem: string; der: Buffer }[] {
  if (text.includes('PRIVATE KEY-----'))
    throw fault(field, 'holds a private key, which belongs to nobody but the CA');
  const blocks = [...text.matchAll(BLOCK)];
  if (text.split('-----BEGIN ').length - 1 !== blocks.length)
    throw fault(field, 'a block between BEGIN and END is cut, or is not base64');
  if (blocks.length === 0)
    throw fault(field, `holds nothing; it has to be PEM that begins with -----BEGIN ${label}-----`);
  if (blocks.length > MAX_AUTHORITIES)
    throw fault(field, `holds ${blocks.length} blocks; at most ${MAX_AUTHORITIES} are taken`);
  return blocks.map(([pem, found, base64 = ''], index) => {
    if (found !== label) throw fault(field, `block ${index + 1} is ${found}, not ${label}`);
    return { pem: `${pem}\n`, der: Buffer.from(base64, 'base64') };
  });
}

function readAuthorities(text: string, tries: Tries): X509Certificate[] {
  const authorities = new Map<string, X509Certificate>();
  for (const [index, { pem }] of blocksOf('ca_pem', text, 'CERTIFICATE').entries()) {
    const authority = readAuthority(pem, index + 1);
    authorities.set(authority.fingerprint256, authority);
  }
  const all = [...authorities.values()];
  const isIssuedBy = (one: X509Certificate, above: X509Certificate) =>
    one.checkIssued(above) && tries.verify('ca_pem', () => one.verify(above.publicKey));
  // Roots of one name are common, and each is its own issuer.
  for (const authority of all)
    if (
      !isIssuedBy(authority, authority) &&
      !all.some((above) => above !== authority && isIssuedBy(authority, above))
    )
      throw fault(
        'ca_pem',
        `${oneLine(authority.subject)} was issued by ${oneLine(authority.issuer)}, which is missing; add it, up to the root`,
      );
  return all;
}

/** Signatures that are checked for one text: whoever writes it decides how many there would be. */
class Tries {
  #left = MAX_VERIFICATIONS;

  /** @throws AppError INVALID_INPUT */
  verify(field: Field, isSigned: () => boolean): boolean {
    if (this.#left-- <= 0)
      throw fault(field, 'has too many CAs of one name to find out which of them signed what; remove some');
    return isSigned();
  }
}

function readAuthority(pem: string, position: number): X509Certificate {
  let authority: X509Certificate;
  try {
    authority = new X509Certificate(pem);
    authority.publicKey.export({ type: 'spki', format: 'der' });
  } catch (cause) {
    throw fault('ca_pem', `certificate ${position} can't be read: ${messageOf(cause)}`, cause);
  }
  if (!authority.ca)
    throw fault(
      'ca_pem',
      `${oneLine(authority.subject)} is no CA (basicConstraints); give the CA that issues to clients`,
    );
  return authority;
}

function readLists(text: string, authorities: readonly X509Certificate[], tries: Tries): OwnedList[] {
  const lists = blocksOf('crl_pem', text, 'X509 CRL').map(({ pem, der }, index) => ({
    pem,
    ...readList(der, `list ${index + 1}`, { authorities, tries }),
  }));
  for (const authority of authorities)
    if (!lists.some((one) => one.authority === authority))
      throw fault(
        'crl_pem',
        `has no list of ${oneLine(authority.subject)}; with lists, every CA of ca_pem needs its own, or no client of it gets in`,
      );
  return lists;
}

function readList(
  der: Buffer,
  what: string,
  { authorities, tries }: { authorities: readonly X509Certificate[]; tries: Tries },
): Omit<OwnedList, 'pem'> {
  const list = readRevocationList(der);
  if (!list) throw fault('crl_pem', `${what} can't be read as a certificate revocation list`);
  const authority = authorities.find(
    (one) =>
      subjectOf(one)?.equals(list.issuer) === true &&
      tries.verify('crl_pem', () => list.isSignedBy(one.publicKey)),
  );
  if (!authority)
    throw fault(
      'crl_pem',
      `${what} is not signed by a CA of ca_pem, with SHA-256 or better (RSA, ECDSA or Ed25519)`,
    );
  const name = oneLine(authority.subject);
  if (!maySignLists(authority))
    throw fault('crl_pem', `${name} may not sign lists: its key usage lacks cRLSign`);
  const { thisUpdate, nextUpdate, revoked } = list;
  if (nextUpdate === undefined)
    throw fault('crl_pem', `the list of ${name} does not say until when it counts (nextUpdate)`);
  return { list: { thisUpdate, nextUpdate, revoked }, authority };
}
