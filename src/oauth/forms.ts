/**
 * What this server reads differently from the library: a request without a scope asks for the default one, an access
 * token in a form is passed on in a disguise, because the library gives up at the sight of a JSON Web Token before it
 * looks it up, and a client that registers with a scheme of its own is an app, also where it does not say so. Pure.
 */
import { z } from 'zod';
import { DEFAULT_SCOPE } from '../core/permissions.ts';
import { looksLikeJwt } from './access-tokens.ts';
import type { HeldRequest } from './bridge.ts';
import { PATHS } from './paths.ts';
import { redirectFault } from './redirects.ts';

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';

/** Where a scope is asked for; the answer to a reference (RFC 9126 §4) was asked for before. */
const asking: ReadonlySet<string> = new Set([
  PATHS.authorization,
  PATHS.device_authorization,
  PATHS.pushed_authorization_request,
]);
const readingTokens: ReadonlySet<string> = new Set([PATHS.introspection, PATHS.revocation]);

/** Undefined when the body is no form. */
export function formOf({ body }: HeldRequest, contentType: string | undefined): URLSearchParams | undefined {
  const isForm = /^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(contentType ?? '');
  return isForm ? new URLSearchParams(body.toString('utf8')) : undefined;
}

export function adjust(held: HeldRequest, contentType: string | undefined): HeldRequest {
  const { path, query } = held;
  const form = formOf(held, contentType);
  if (form && readingTokens.has(path)) return withForm(held, disguised(form));
  if (path === PATHS.registration || path.startsWith(`${PATHS.registration}/`)) return withKind(held);
  if (!asking.has(path)) return held;
  if (form) return withForm(held, withScope(form));
  return path === PATHS.authorization
    ? { ...held, query: withScope(new URLSearchParams(query)).toString() }
    : held;
}

/** The device code of a client that asks whether the person has agreed; undefined when it asks something else. */
export function polledCode(held: HeldRequest, contentType: string | undefined): string | undefined {
  const form = held.path === PATHS.token ? formOf(held, contentType) : undefined;
  return form?.get('grant_type') === DEVICE_GRANT ? (form.get('device_code') ?? undefined) : undefined;
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc6749#section-3.3 | RFC 6749 §3.3} on a default */
function withScope(form: URLSearchParams): URLSearchParams {
  if (!form.has('scope') && !form.has('request_uri') && form.has('client_id'))
    form.set('scope', DEFAULT_SCOPE);
  return form;
}

/**
 * Cursor registers its own scheme, a page and loopback at once, and no `application_type`; the default of that, `web`,
 * would refuse the scheme. @see OpenID Connect Dynamic Client Registration 1.0 §2, RFC 8252 §7.1
 */
function withKind(held: HeldRequest): HeldRequest {
  const metadata = metadataSchema.safeParse(parsed(held.body)).data;
  const isApp = metadata?.redirect_uris.some(
    (uri) => redirectFault(uri) === undefined && !/^https?:/i.test(uri),
  );
  if (!isApp || metadata?.application_type !== undefined) return held;
  return { ...held, body: Buffer.from(JSON.stringify({ ...metadata, application_type: 'native' })) };
}

const metadataSchema = z.looseObject({
  redirect_uris: z.array(z.string()),
  application_type: z.unknown().optional(),
});

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined; // Not JSON: the library says so to the client.
  }
}

const MARK = '~';

function disguised(form: URLSearchParams): URLSearchParams {
  const tokens = form.getAll('token');
  const [token = ''] = tokens;
  if (tokens.length === 1 && looksLikeJwt(token)) form.set('token', token.replaceAll('.', MARK));
  return form;
}

/** The token behind a value that the library looks up; undefined when that is no JSON Web Token. */
export const tokenBehind = (value: string): string | undefined =>
  looksLikeJwt(value) ? value.replaceAll(MARK, '.') : undefined;

const withForm = (held: HeldRequest, form: URLSearchParams): HeldRequest => ({
  ...held,
  body: Buffer.from(form.toString()),
});
