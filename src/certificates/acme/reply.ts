/**
 * A reply of a CA → the value that the step needs, or the error that it is. Parsed, never trusted.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.7 | RFC 8555 §6.7}
 */
import type { z } from 'zod';
import { AcmeFault } from './fault.ts';
import { linksOf } from './links.ts';
import { AcmeProblem, parseProblem, type Scope } from './problem.ts';
import type { Reply } from './transport.ts';

const JSON_TYPES = ['application/json', 'application/problem+json'];
const FIRST_ERROR = 400;
const SERVER_ERROR = 500;
const TOO_MANY_REQUESTS = 429;
const MAX_ISSUES = 3;

/** @throws AcmeProblem when the CA says why it refused; AcmeFault when there are only a status and, say, a page. */
export function requireSuccess(reply: Reply, scope: Scope = 'order'): Reply {
  if (reply.status < FIRST_ERROR) return reply;
  const { retryAfterMs, links, status, url } = reply;
  const problem = parseProblem(documentOf(reply), status);
  if (problem)
    throw new AcmeProblem(problem, {
      scope,
      retryAfterMs,
      termsOfService: linksOf(links, 'terms-of-service')[0],
    });
  const isTemporary = status >= SERVER_ERROR || status === TOO_MANY_REQUESTS;
  throw new AcmeFault('http_status', `${url} answered ${status} without saying why`, {
    consequence: isTemporary ? 'retry_later' : 'network',
    retryAfterMs,
    status,
  });
}

/** Undefined for what is no JSON, or says that it is something else. */
function documentOf(reply: Reply): unknown {
  try {
    return jsonOf(reply);
  } catch (cause) {
    // What matters is that there is no document: the status is told in its place.
    if (cause instanceof AcmeFault) return undefined;
    throw cause;
  }
}

/** @throws AcmeFault content_type, malformed_reply */
export function readJson<T>(reply: Reply, schema: z.ZodType<T>): T {
  const { success, data, error } = schema.safeParse(jsonOf(reply));
  if (success) return data;
  const issues = error.issues
    .slice(0, MAX_ISSUES)
    .map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new AcmeFault(
    'malformed_reply',
    `${reply.url} answered with something else than RFC 8555 says: ${issues.join('; ')}`,
  );
}

function jsonOf({ url, contentType, text }: Reply): unknown {
  if (!JSON_TYPES.includes(contentType))
    throw new AcmeFault(
      'content_type',
      `${url} answered with ${contentType || 'no content type'}, not application/json`,
    );
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new AcmeFault('malformed_reply', `${url} answered with what is no JSON`, { cause });
  }
}

/** Of what was created: it is the only place where its URL is told. @see RFC 8555 §7.3, §7.4 */
export function requireLocation({ location, url }: Reply): string {
  if (location === undefined) throw new AcmeFault('malformed_reply', `${url} answered without Location`);
  return location;
}
