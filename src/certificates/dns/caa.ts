/**
 * Who may issue for a name, by its CAA records (RFC 8659), with the parameters of RFC 8657. Reading asks the DNS and
 * returns plain data; judging is pure. A CA that can't find out must not issue, so "could not be found out" is a
 * verdict of its own and never an allowance.
 */
import { cleanText } from '../../core/untrusted.ts';
import { parentOf } from './name.ts';
import type { Failure, Resolver } from './resolver.ts';

/** Records of one set that are looked at; a set with more is refused. */
const MAX_RECORDS = 100;
/** RFC 8659 §4.1: the flag of a record that has to be understood. */
const CRITICAL = 0x80;
const KNOWN_TAGS: ReadonlySet<string> = new Set(['issue', 'issuewild', 'iodef']);

export interface CaaRecord {
  readonly flags: number;
  /** Lower case. */
  readonly tag: string;
  /** As a stranger wrote it; `quoteOf` is for whoever reads. */
  readonly value: string;
}

export type CaaSet =
  /** `owner` is the name that the records are of: the name itself or one above. */
  | { readonly kind: 'found'; readonly owner: string; readonly records: readonly CaaRecord[] }
  /** Neither the name nor one above has any: everybody may. */
  | { readonly kind: 'none' }
  | { readonly kind: Failure['kind']; readonly at: string; readonly reason: string };

/** Climbs from the name (without `*.`) to the top. @see {@link https://www.rfc-editor.org/rfc/rfc8659#section-3 | RFC 8659 §3} */
export async function readCaa(resolver: Resolver, name: string, signal: AbortSignal): Promise<CaaSet> {
  const start = name.startsWith('*.') ? name.slice(2) : name;
  for (let at: string | undefined = start; at !== undefined && at !== ''; at = parentOf(at)) {
    const found = await resolver.lookup(at, 'CAA', signal);
    switch (found.kind) {
      case 'found':
        return { kind: 'found', owner: at, records: found.records };
      case 'no_data':
      case 'no_name':
        break;
      case 'error':
      case 'timeout':
      case 'unreachable':
        return { kind: found.kind, at, reason: cleanText(found.reason) };
    }
  }
  return { kind: 'none' };
}

export interface CaaQuestion {
  /** As in `caaIdentities` of the CA's directory (RFC 8555 §7.1.1). */
  readonly identities: readonly string[];
  readonly name: string;
  /** `http-01`, `dns-01`, `tls-alpn-01`. */
  readonly method: string;
  /** URL of the ACME account; undefined when there is none yet. */
  readonly accountUri: string | undefined;
}

export interface CaaVerdict {
  readonly verdict: 'allowed' | 'forbidden' | 'unknown';
  readonly reason: string;
  /** The record that decides, as it would stand in a zone file, clean. */
  readonly record?: string | undefined;
  /** Whose record it is. */
  readonly owner?: string | undefined;
  /** Where violations are reported to (`iodef`), clean. */
  readonly reportTo: readonly string[];
}

/** Whether this CA may issue this. @see {@link https://www.rfc-editor.org/rfc/rfc8659#section-4 | RFC 8659 §4} */
export function judgeCaa(set: CaaSet, question: CaaQuestion): CaaVerdict {
  if (set.kind === 'none')
    return { verdict: 'allowed', reason: 'no CAA record says who may issue', reportTo: [] };
  if (set.kind !== 'found')
    return {
      verdict: 'unknown',
      reason: `the CAA records of ${set.at} could not be read (${set.reason}); a CA that can't read them must not issue`,
      reportTo: [],
    };
  const { owner, records } = set;
  const reportTo = records.filter(({ tag }) => tag === 'iodef').map(({ value }) => cleanText(value));
  return { ...judgeRecords(owner, records, question), owner, reportTo };
}

type Judged = Pick<CaaVerdict, 'verdict' | 'reason' | 'record'>;

function judgeRecords(owner: string, records: readonly CaaRecord[], question: CaaQuestion): Judged {
  if (records.length > MAX_RECORDS)
    return { verdict: 'unknown', reason: `${owner} has more than ${MAX_RECORDS} CAA records` };
  const unknown = records.find(({ flags, tag }) => (flags & CRITICAL) !== 0 && !KNOWN_TAGS.has(tag));
  if (unknown)
    return decidedBy(owner, unknown, 'forbidden', 'a critical CAA record of an unknown kind forbids issuing');
  const applying = applicable(records, question.name.startsWith('*.'));
  if (applying.length === 0)
    return { verdict: 'allowed', reason: 'its CAA records do not restrict who may issue this' };
  const judged = applying.map((record) => ({ record, ...judgeOne(record, question) }));
  const best =
    judged.find(({ verdict }) => verdict === 'allowed') ??
    judged.find(({ verdict }) => verdict === 'unknown') ??
    // Of those that forbid, the one that names this CA tells more than that others are named.
    judged.find(({ isOwn }) => isOwn) ??
    judged[0];
  return best ? decidedBy(owner, best.record, best.verdict, best.reason) : { verdict: 'unknown', reason: '' };
}

/** RFC 8659 §4.3: for a wildcard, `issuewild` takes the place of `issue` where there is any. */
function applicable(records: readonly CaaRecord[], isWildcard: boolean): CaaRecord[] {
  const wild = isWildcard ? records.filter(({ tag }) => tag === 'issuewild') : [];
  return wild.length > 0 ? wild : records.filter(({ tag }) => tag === 'issue');
}

const decidedBy = (
  owner: string,
  record: CaaRecord,
  verdict: CaaVerdict['verdict'],
  reason: string,
): Judged => ({
  verdict,
  reason,
  record: quoteOf(owner, record),
});

const quoteOf = (owner: string, { flags, tag, value }: CaaRecord): string =>
  cleanText(`${owner} CAA ${flags} ${tag} "${value}"`);

type One = Pick<CaaVerdict, 'verdict' | 'reason'> & { readonly isOwn: boolean };

function judgeOne({ value }: CaaRecord, question: CaaQuestion): One {
  const parsed = parseIssuer(value);
  if (!parsed)
    return {
      verdict: 'forbidden',
      reason: 'a CAA record that is written wrongly allows nobody',
      isOwn: false,
    };
  const { issuer, parameters } = parsed;
  const identities = question.identities.map((identity) => identity.toLowerCase());
  if (!identities.includes(issuer)) {
    const reason = issuer === '' ? 'it allows nobody' : `it allows another CA than ${identities.join(', ')}`;
    return { verdict: 'forbidden', reason, isOwn: false };
  }
  return { ...(judgeParameters(parameters, question) ?? allowed), isOwn: true };
}

const allowed = { verdict: 'allowed', reason: 'it allows this CA' } as const;
const forbidden = (reason: string) => ({ verdict: 'forbidden', reason }) as const;

/** Undefined when nothing speaks against it. @see {@link https://www.rfc-editor.org/rfc/rfc8657 | RFC 8657} */
function judgeParameters(
  parameters: readonly Parameter[],
  { method, accountUri }: CaaQuestion,
): Pick<CaaVerdict, 'verdict' | 'reason'> | undefined {
  const valuesOf = (tag: string) => parameters.filter((one) => one.tag === tag).map(({ value }) => value);
  const methods = valuesOf('validationmethods');
  const accounts = valuesOf('accounturi');
  // §3 and §4: a parameter that stands twice can't be satisfied.
  if (methods.length > 1 || accounts.length > 1)
    return forbidden('it has a parameter twice, which nobody satisfies');
  const [allowedMethods] = methods;
  if (allowedMethods !== undefined && !allowedMethods.split(',').includes(method))
    return forbidden(`it allows this CA by other challenges than ${method} (validationmethods)`);
  const [account] = accounts;
  if (account === undefined || account === accountUri) return undefined;
  return accountUri === undefined
    ? {
        verdict: 'unknown',
        reason: 'it allows this CA for one account (accounturi), and there is no account yet',
      }
    : forbidden(`it allows this CA for another account than ${accountUri} (accounturi)`);
}

interface Parameter {
  readonly tag: string;
  readonly value: string;
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc8659#section-4.2 | RFC 8659 §4.2} */
const DOMAIN = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)?$/;
const PARAMETER = /^([A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)[ \t]*=[ \t]*([!-:<-~]*)$/;
/** Of a record that is read; what is longer is written wrongly. */
const MAX_VALUE = 2048;

/** Undefined when it does not follow the grammar; then it allows nobody. */
function parseIssuer(value: string): { issuer: string; parameters: Parameter[] } | undefined {
  if (value.length > MAX_VALUE) return undefined;
  const [first = '', ...rest] = value.split(';').map(withoutSpaces);
  const issuer = first.toLowerCase();
  if (!DOMAIN.test(issuer)) return undefined;
  const parameters: Parameter[] = [];
  // A semicolon without a parameter behind it is allowed.
  for (const part of rest.length === 1 && rest[0] === '' ? [] : rest) {
    const [, tag, text] = PARAMETER.exec(part) ?? [];
    if (tag === undefined || text === undefined) return undefined;
    parameters.push({ tag: tag.toLowerCase(), value: text });
  }
  return { issuer, parameters };
}

/** Without a pattern, which takes long over a long row of spaces. Other white space is not part of the grammar. */
function withoutSpaces(text: string): string {
  const isSpace = (at: number) => text[at] === ' ' || text[at] === '\t';
  let [start, end] = [0, text.length];
  while (start < end && isSpace(start)) start += 1;
  while (end > start && isSpace(end - 1)) end -= 1;
  return text.slice(start, end);
}
