/**
 * Problem documents: what a CA says when it refuses, kept whole, and what that means for the caller.
 * @see {@link https://www.rfc-editor.org/rfc/rfc7807 | RFC 7807} (now RFC 9457)
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.7 | RFC 8555 §6.7}
 */
import { z } from 'zod';
import { cleanText } from '../../core/untrusted.ts';
import { AcmeError, type Consequence } from './fault.ts';
import { type Identifier, identifierSchema } from './identifier.ts';

const MAX_TYPE = 200;
const MAX_DETAIL = 4_096;
const MAX_URL = 2_048;
const MAX_RAW = 8_192;
const MAX_SUBPROBLEMS = 100;
const PREFIX = 'urn:ietf:params:acme:error:';
/** @see RFC 7807 §3.1: a type that is missing. */
const NO_TYPE = 'about:blank';
const TOO_MANY_REQUESTS = 429;
const SERVER_ERROR = 500;
const REFUSED: readonly number[] = [401, 403];

/** A stranger wrote every text in it: `cleanText` comes before a person, a model or a log. */
export interface Problem {
  type: string;
  detail: string | undefined;
  title: string | undefined;
  /** The `status` member, or that of the reply. */
  status: number | undefined;
  /** Of `userActionRequired`: where a person has to go. */
  instance: string | undefined;
  identifier: Identifier | undefined;
  /** One for each name that it concerns. @see RFC 8555 §6.7.1 */
  subproblems: readonly Problem[];
  /** The document as it came, cut to a length. */
  raw: string;
}

/** A member that makes no sense is dropped, never the document: it is all that a person has to go by. */
const text = (max: number) =>
  z
    .string()
    .transform((value) => value.slice(0, max))
    .optional()
    .catch(undefined);
const members = z.object({
  type: text(MAX_TYPE),
  detail: text(MAX_DETAIL),
  title: text(MAX_DETAIL),
  status: z.int().min(100).max(599).optional().catch(undefined),
  instance: text(MAX_URL),
  identifier: identifierSchema.optional().catch(undefined),
  subproblems: z.array(z.unknown()).optional().catch(undefined),
});

/** Undefined when it is no object, which is no problem document. Subproblems have none of their own. */
export function parseProblem(value: unknown, status?: number): Problem | undefined {
  return parse(value, status, true);
}

function parse(value: unknown, status: number | undefined, isOuter: boolean): Problem | undefined {
  const { success, data } = members.safeParse(value);
  if (!success) return undefined;
  const { type = NO_TYPE, detail, title, instance, identifier, subproblems = [] } = data;
  return {
    type,
    detail,
    title,
    status: data.status ?? status,
    instance,
    identifier,
    subproblems: isOuter
      ? subproblems.slice(0, MAX_SUBPROBLEMS).flatMap((item) => parse(item, undefined, false) ?? [])
      : [],
    raw: rawOf(value),
  };
}

/** What can be read may be nested too deep to be written. */
function rawOf(value: unknown): string {
  try {
    return JSON.stringify(value).slice(0, MAX_RAW);
  } catch (cause) {
    if (cause instanceof RangeError) return '';
    throw cause;
  }
}

/** Not `unauthorized`, which every kind of refusal can be, and not `compound`. */
const CONSEQUENCES: Readonly<Record<string, Consequence>> = {
  accountDoesNotExist: 'account',
  alreadyReplaced: 'order',
  alreadyRevoked: 'order',
  badCSR: 'order',
  badNonce: 'retry_later',
  badPublicKey: 'account',
  badRevocationReason: 'order',
  badSignatureAlgorithm: 'account',
  caa: 'order',
  connection: 'order',
  dns: 'order',
  externalAccountRequired: 'account',
  incorrectResponse: 'order',
  invalidContact: 'account',
  invalidProfile: 'account',
  malformed: 'order',
  orderNotReady: 'order',
  rateLimited: 'retry_later',
  rejectedIdentifier: 'order',
  serverInternal: 'retry_later',
  tls: 'order',
  unsupportedContact: 'account',
  unsupportedIdentifier: 'order',
  userActionRequired: 'person',
};

/** What one refusal of several names means is what the gravest of them means. */
const GRAVITY: readonly Consequence[] = ['person', 'account', 'order', 'retry_later'];

/** The last part of one of RFC 8555's own types, such as `rateLimited`; undefined for types of anybody else. */
export const acmeType = ({ type }: Problem): string | undefined =>
  type.startsWith(PREFIX) ? type.slice(PREFIX.length) : undefined;

/**
 * What was refused: what an account does by itself (to be made or changed, to order), or what belongs to one order, as
 * its finalization and the `error` of its challenges.
 */
export type Scope = 'account' | 'order';

export function consequenceOf(problem: Problem, scope: Scope): Consequence {
  const name = acmeType(problem) ?? '';
  if (name === 'unauthorized') return scope;
  if (name === 'compound') {
    const all = problem.subproblems.map((each) => consequenceOf(each, scope));
    return GRAVITY.find((consequence) => all.includes(consequence)) ?? 'order';
  }
  const known = Object.hasOwn(CONSEQUENCES, name) ? CONSEQUENCES[name] : undefined;
  return known ?? ofStatus(problem.status);
}

function ofStatus(status = 0): Consequence {
  if (status >= SERVER_ERROR || status === TOO_MANY_REQUESTS) return 'retry_later';
  return REFUSED.includes(status) ? 'account' : 'order';
}

interface ProblemContext {
  scope: Scope;
  retryAfterMs: number | undefined;
  /** From `Link: rel="terms-of-service"`: what has to be agreed to. @see RFC 8555 §7.3.3 */
  termsOfService: string | undefined;
}

/** The CA answered, and refused. */
export class AcmeProblem extends AcmeError {
  override readonly name = 'AcmeProblem';
  readonly problem: Problem;
  readonly termsOfService: string | undefined;

  constructor(problem: Problem, { scope, retryAfterMs, termsOfService }: ProblemContext) {
    super(messageOf(problem), { consequence: consequenceOf(problem, scope), retryAfterMs });
    this.problem = problem;
    this.termsOfService = termsOfService;
  }

  /** Of RFC 8555's own types: `rateLimited`. */
  get type(): string | undefined {
    return acmeType(this.problem);
  }
}

function messageOf(problem: Problem): string {
  const what = problem.detail ?? problem.title ?? 'no detail';
  const names = problem.subproblems.flatMap(({ identifier, detail }) =>
    identifier ? [`${identifier.value}: ${detail ?? 'refused'}`] : [],
  );
  return cleanText(`the CA refused: ${[what, ...names].join('; ')} (${acmeType(problem) ?? problem.type})`);
}
