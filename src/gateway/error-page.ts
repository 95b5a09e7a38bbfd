/**
 * What a client is told when the gateway answers by itself: as text, HTML or JSON, whichever it asked for first, with
 * the trace id that finds the reason in the log. Generic on purpose: no address, no header, nothing of the upstream.
 */
import { errorSurface, type ErrorCode } from '../core/errors.ts';

export interface Refusal {
  readonly status: number;
  /** For the access record. */
  readonly code: ErrorCode;
  /** What to do next, in plain ASCII. Never what a stranger wrote. */
  readonly message: string;
  /** Why, for the access record only. */
  readonly reason?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

const titles: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Sign in first',
  403: 'Not allowed',
  404: 'Not found',
  405: 'Method not allowed',
  408: 'Request timed out',
  413: 'Too large',
  417: 'Expectation failed',
  421: 'Not served here',
  429: 'Too many requests',
  431: 'Request header too large',
  500: 'Internal error',
  501: 'Not supported',
  502: 'Upstream failed',
  503: 'Unavailable',
  504: 'Upstream took too long',
  508: 'Loop detected',
};

export const titleOf = (status: number): string => titles[status] ?? 'Error';

export interface Page {
  readonly contentType: string;
  readonly body: string;
}

type Format = 'text' | 'html' | 'json';

const formats: readonly [RegExp, Format][] = [
  [/^text\/html$|^application\/xhtml\+xml$/, 'html'],
  [/^application\/(?:[^;]*\+)?json$/, 'json'],
  [/^text\/(?:plain|\*)$|^\*\/\*$/, 'text'],
];
/** Enough for any browser; the rest of a longer header is not looked at. */
const MAX_ACCEPT = 512;

/** The first type that can be served; `q` is left aside, as clients list what they prefer first. */
export function formatOf(accept: string | undefined): Format {
  for (const range of (accept ?? '').slice(0, MAX_ACCEPT).split(',')) {
    const type = (range.split(';')[0] ?? '').trim().toLowerCase();
    const found = formats.find(([pattern]) => pattern.test(type));
    if (found) return found[1];
  }
  return 'text';
}

export function errorPage(refusal: Refusal, accept: string | undefined, traceId: string): Page {
  const title = titleOf(refusal.status);
  switch (formatOf(accept)) {
    case 'html':
      return { contentType: 'text/html; charset=utf-8', body: htmlPage(refusal, title, traceId) };
    case 'json':
      return { contentType: 'application/json; charset=utf-8', body: jsonPage(refusal, traceId) };
    case 'text':
      return {
        contentType: 'text/plain; charset=utf-8',
        body: `${refusal.status} ${title}\n\n${refusal.message}\nTrace id: ${traceId}\n`,
      };
  }
}

const jsonPage = ({ code, message, status }: Refusal, traceId: string): string =>
  JSON.stringify({ error: { code, message, status, trace_id: traceId } });

const STYLE =
  'body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}code{font-size:.85em}';

function htmlPage({ status, message }: Refusal, title: string, traceId: string): string {
  return (
    `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<title>${status} ${escaped(title)}</title><style>${STYLE}</style>` +
    `<h1>${escaped(title)}</h1><p>${escaped(message)}</p><p><code>${status} &middot; ${escaped(traceId)}</code></p></html>\n`
  );
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text: string): string => text.replace(/[&<>"]/g, (character) => ENTITIES[character] ?? '');

/** To an MCP client: a JSON-RPC error without an id, since the message was never read. */
export function rpcErrorPage({ code, message, status }: Refusal, traceId: string): Page {
  const error = { code: errorSurface[code].jsonrpc, message, data: { code, status, trace_id: traceId } };
  return { contentType: 'application/json', body: JSON.stringify({ jsonrpc: '2.0', error }) };
}

/** Fields of every page of ours. */
export const pageHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
};
