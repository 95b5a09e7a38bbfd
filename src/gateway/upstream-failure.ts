/** What went wrong on the way to an upstream, as the client is told and as the log keeps it. */
import { AppError } from '../core/errors.ts';
import { messageOf } from '../core/errors.ts';
import { ClientGone } from './client-body.ts';
import type { Refusal } from './error-page.ts';

const timeouts: Readonly<Record<string, string>> = {
  UND_ERR_CONNECT_TIMEOUT: 'The upstream did not accept the connection in time.',
  ETIMEDOUT: 'The upstream did not accept the connection in time.',
  UND_ERR_HEADERS_TIMEOUT: 'The upstream did not answer in time.',
  UND_ERR_BODY_TIMEOUT: 'The upstream stopped in the middle of its answer.',
};

const failures: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'The upstream refuses the connection.',
  ENOTFOUND: 'The name of the upstream does not resolve.',
  EAI_AGAIN: 'The name of the upstream does not resolve at the moment.',
  EHOSTUNREACH: 'The upstream can not be reached.',
  ENETUNREACH: 'The upstream can not be reached.',
  ECONNRESET: 'The upstream closed the connection before it answered.',
  EPIPE: 'The upstream closed the connection before it answered.',
  UND_ERR_SOCKET: 'The upstream closed the connection before it answered.',
};
const UNKNOWN = 'The upstream answered with something that is not acceptable HTTP.';
const UNTRUSTED = 'The certificate of the upstream is not trusted.';
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/;

/** Of a target that names a service, when that is nowhere. */
export const serviceAway = {
  status: 503,
  code: 'UNAVAILABLE',
  message: 'The service behind this hostname does not run at the moment.',
  headers: { 'retry-after': '1' },
} as const satisfies Refusal;

export function refusalOf(error: Error): Refusal {
  const reason = `${codeOf(error)}: ${messageOf(error)}`;
  if (error.name === 'TargetAway') return { ...serviceAway, reason };
  if (error instanceof AppError && error.code === 'TOO_LARGE')
    return {
      status: 413,
      code: 'TOO_LARGE',
      message: 'The request body is larger than is allowed here.',
      reason,
    };
  if (error instanceof ClientGone)
    return { status: 400, code: 'CANCELLED', message: 'The request did not come in whole.', reason };
  if (error.name === 'TargetRefused')
    return { status: 502, code: 'UPSTREAM_FAILED', message: 'The target is not allowed.', reason };
  const code = codeOf(error);
  const late = timeouts[code];
  if (late !== undefined) return { status: 504, code: 'TIMEOUT', message: late, reason };
  const message = failures[code] ?? (CERTIFICATE.test(code) ? UNTRUSTED : UNKNOWN);
  return { status: 502, code: 'UPSTREAM_FAILED', message, reason };
}

/** Nothing was answered and the pool's connection was a stale one: a request without effect may be sent again. */
export function isStaleConnection(error: Error): boolean {
  return ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(codeOf(error));
}

/** Somebody was waited for in vain. */
export const isLate = (error: Error): boolean => Object.hasOwn(timeouts, codeOf(error));

function codeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}
