/** What the pages read from a request: a form of ours, sent by a page of ours. */
import type { KoaContextWithOIDC } from 'oidc-provider';
import { AppError } from '../../core/errors.ts';

/** Characters of all fields together. */
const MAX_FORM = 16 * 1024;

/**
 * A form that another site made the browser send is refused: browsers say where a request comes from, and the cookie
 * is not sent across sites (SameSite). Programs that say nothing have no cookie to abuse.
 * @see {@link https://www.w3.org/TR/fetch-metadata/ | Fetch Metadata}
 */
export async function readForm(context: KoaContextWithOIDC, issuer: string): Promise<URLSearchParams> {
  requireOwnOrigin(context, issuer);
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of context.req as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_FORM) throw new AppError('TOO_LARGE', 'the form is too large');
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString('utf8'));
}

export function requireOwnOrigin({ headers }: KoaContextWithOIDC, issuer: string): void {
  const { origin, 'sec-fetch-site': site } = headers;
  // A page that sends no referrer (ours say so) makes browsers send the origin `null` with a form of its own.
  const isOwn = origin === undefined || origin === issuer || (origin === 'null' && site === 'same-origin');
  if (isOwn && (site === undefined || site === 'same-origin' || site === 'none')) return;
  throw new AppError('FORBIDDEN', 'this form was sent by another site; open the sign-in page again');
}
