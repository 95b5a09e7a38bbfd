/**
 * What a client is told when the gateway answers by itself: as text, HTML or JSON, whichever it likes best, with the
 * trace id that finds the reason in the log. Generic on purpose: no address, no header, nothing of the upstream.
 */
import { hash } from 'node:crypto';
import { errorSurface, type ErrorCode } from '../core/errors.ts';
import { escapeHtml } from '../core/html.ts';

export interface Refusal {
  readonly status: number;
  /** For the access record. */
  readonly code: ErrorCode;
  /** What to do next, in plain ASCII. Never what a stranger wrote. */
  readonly message: string;
  /** Why, for the access record only. */
  readonly reason?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** In place of the page that the message would be put on. */
  readonly page?: Page | undefined;
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
  505: 'HTTP version not supported',
  508: 'Loop detected',
};

export const titleOf = (status: number): string => titles[status] ?? 'Error';

export interface Page {
  readonly contentType: string;
  readonly body: string;
}

/** The first is for clients to whom all are the same. */
const formats = ['text', 'html', 'json'] as const;
type Format = (typeof formats)[number];

/** Media ranges that each satisfies, from the one that says most to the one that says least. */
const ranges: Readonly<Record<Format, readonly string[]>> = {
  text: ['text/plain', 'text/*', '*/*'],
  html: ['text/html', 'text/*', '*/*'],
  json: ['application/json', 'application/*', '*/*'],
};
/** Enough for any browser; the rest of a longer header is not looked at. */
const MAX_ACCEPT = 512;
const QUALITY = /^q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;
/** Whoever takes problem+json reads JSON. */
const KIND_OF_JSON = /^application\/[^/]+\+json$/;

interface Wish {
  readonly quality: number;
  readonly position: number;
}

/**
 * What the client likes best of what there is. Of equals what it named itself, then what it named first; text when it
 * takes nothing of it, because a page that was not asked for is better than none.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1 | RFC 9110 §12.5.1}
 */
export function formatOf(accept: string | undefined): Format {
  const wishes = new Map<string, Wish>();
  for (const [position, range] of (accept ?? '').slice(0, MAX_ACCEPT).split(',').entries()) {
    const { type, quality } = parseRange(range);
    if (!wishes.has(type)) wishes.set(type, { quality, position });
  }
  const [best] = formats
    .flatMap((format) => candidateOf(format, wishes) ?? [])
    .sort((a, b) => b.quality - a.quality || a.vagueness - b.vagueness || a.position - b.position);
  return best?.format ?? 'text';
}

function parseRange(range: string): { type: string; quality: number } {
  const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => parameter.startsWith('q='));
  const quality = weight === undefined ? undefined : QUALITY.exec(weight)?.[1];
  return { type: KIND_OF_JSON.test(name) ? 'application/json' : name, quality: Number(quality ?? 1) };
}

/** Undefined: not acceptable. The range that says most decides, so that `text/html;q=0` is heard beside a wildcard. */
function candidateOf(format: Format, wishes: ReadonlyMap<string, Wish>) {
  for (const [vagueness, range] of ranges[format].entries()) {
    const wish = wishes.get(range);
    if (wish) return wish.quality > 0 ? { format, vagueness, ...wish } : undefined;
  }
  return undefined;
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
        body: `${refusal.status} ${title}\n\n${refusal.message}\nTrace id: ${traceId} (${FOR_WHOM})\n`,
      };
  }
}

const jsonPage = ({ code, message, status }: Refusal, traceId: string): string =>
  JSON.stringify({ error: { code, message, status, trace_id: traceId } });

const FOR_WHOM = 'give this to the operator';

/** Colours are the browser's own, light or dark as its user has them; nothing is loaded. */
const STYLE = [
  ':root{color-scheme:light dark}',
  'body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:12vh auto;padding:0 1.25rem}',
  'h1{font-size:1.75rem;line-height:1.2;margin:0 0 1rem}',
  'small{font-size:.875rem;color:color-mix(in srgb,CanvasText 68%,Canvas)}',
  'code{overflow-wrap:anywhere;user-select:all}',
  'footer{border-top:1px solid color-mix(in srgb,CanvasText 20%,Canvas);margin-top:2rem;padding-top:1rem}',
].join('');

function htmlPage({ status, message }: Refusal, title: string, traceId: string): string {
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
    '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">' +
    `<title>${status} ${escapeHtml(title)}</title><style>${STYLE}</style></head><body>` +
    `<main><small>Error ${status}</small><h1>${escapeHtml(title)}</h1><p>${escapeHtml(message)}</p></main>` +
    `<footer><small>Trace id <code>${escapeHtml(traceId)}</code>, ${FOR_WHOM}.</small></footer></body></html>\n`
  );
}

/** To an MCP client: a JSON-RPC error without an id, since the message was never read. */
export function rpcErrorPage({ code, message, status }: Refusal, traceId: string): Page {
  const error = { code: errorSurface[code].jsonrpc, message, data: { code, status, trace_id: traceId } };
  return { contentType: 'application/json', body: JSON.stringify({ jsonrpc: '2.0', error }) };
}

/** Fields of every page of ours: it may have its own style and nothing else. */
export const pageHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'content-security-policy': [
    "default-src 'none'",
    `style-src 'sha256-${hash('sha256', STYLE, 'base64')}'`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
};
