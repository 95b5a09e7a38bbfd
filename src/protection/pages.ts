/** The few pages that a protected hostname shows by itself. No script, nothing loaded, never in a frame. */
import { hash } from 'node:crypto';
import type { Reply } from '../core/exchange.ts';
import { escapeHtml } from '../core/html.ts';

const STYLE = [
  ':root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:0;padding:0 1rem}',
  'main{max-width:26rem;margin:12vh auto}h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}',
  'button{font:inherit;font-weight:600;width:100%;padding:.65rem 1rem;border-radius:.4rem;border:1px solid #1a56c4;background:#1a56c4;color:#fff;cursor:pointer}',
  ':focus-visible{outline:3px solid #4c8dff;outline-offset:2px}',
].join('');

export interface PageFacts {
  readonly status: number;
  readonly title: string;
  readonly text: string;
  /** A way on: to a URL by a link, or by a form that posts to where the page is. */
  readonly link?: { readonly href: string; readonly text: string } | undefined;
  readonly button?: string | undefined;
  readonly cookies?: readonly string[];
}

export function sendPage(reply: Reply, isHead: boolean, facts: PageFacts): void {
  const { status, title, text, link, button, cookies = [] } = facts;
  const page = Buffer.from(
    '<!doctype html><html lang="en"><head><meta charset="utf-8">' +
      '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">' +
      `<title>${escapeHtml(title)}</title><style>${STYLE}</style></head><body><main>` +
      `<h1>${escapeHtml(title)}</h1><p>${escapeHtml(text)}</p>` +
      (link ? `<p><a href="${escapeHtml(link.href)}">${escapeHtml(link.text)}</a></p>` : '') +
      (button === undefined
        ? ''
        : `<form method="post"><button autofocus>${escapeHtml(button)}</button></form>`) +
      '</main></body></html>\n',
  );
  reply.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'content-length': String(page.length),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'content-security-policy': [
      "default-src 'none'",
      `style-src 'sha256-${hash('sha256', STYLE, 'base64')}'`,
      "base-uri 'none'",
      // Without `form-action`: what the form leads to is at the authorization server, by a redirect.
      "frame-ancestors 'none'",
    ].join('; '),
    ...(cookies.length > 0 && { 'set-cookie': [...cookies] }),
  });
  reply.end(isHead ? undefined : page);
}
