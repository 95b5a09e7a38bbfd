/**
 * The frame of every page of the authorization server: one style, no script but our own file, nothing from elsewhere, never in a frame
 * of somebody else. `hono/html` escapes whatever is put into a template.
 */
import { createHash } from 'node:crypto';
import { html, raw } from 'hono/html';
import type { KoaContextWithOIDC } from 'oidc-provider';

/** Text of a page; what strangers wrote is escaped in it already. */
export type Markup = ReturnType<typeof html>;

const STYLE = [
  ':root{color-scheme:light dark;--line:color-mix(in srgb,CanvasText 22%,Canvas);--soft:color-mix(in srgb,CanvasText 68%,Canvas)}',
  '*{box-sizing:border-box}body{font:1rem/1.5 system-ui,sans-serif;margin:0;padding:0 1rem;background:Canvas;color:CanvasText}',
  'main{max-width:26rem;margin:8vh auto 4rem}h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem;overflow-wrap:anywhere}',
  'label{display:block;margin:1rem 0 .25rem;font-weight:600}',
  'input{font:inherit;width:100%;padding:.6rem .7rem;border:1px solid var(--line);border-radius:.4rem;background:Field;color:FieldText}',
  'button,.button{font:inherit;font-weight:600;display:block;width:100%;margin:1rem 0 0;padding:.65rem 1rem;border-radius:.4rem;',
  'border:1px solid var(--line);background:ButtonFace;color:ButtonText;text-align:center;text-decoration:none;cursor:pointer}',
  'button.first{background:#1a56c4;border-color:#1a56c4;color:#fff}',
  ':focus-visible{outline:3px solid #4c8dff;outline-offset:2px}',
  'dl{border:1px solid var(--line);border-radius:.4rem;padding:.75rem 1rem;margin:1rem 0}dt{color:var(--soft);font-size:.875rem}',
  'dd{margin:0 0 .6rem;overflow-wrap:anywhere}dd:last-child{margin:0}ul{padding-left:1.2rem;margin:.5rem 0}li{margin:.25rem 0}',
  '.warning{border-left:4px solid #c4731a;padding:.25rem 0 .25rem .8rem;margin:1rem 0}',
  '.fault{border-left:4px solid #c42b1a;padding:.25rem 0 .25rem .8rem;margin:1rem 0}',
  '.said{border-left:4px solid #2a8a4a;padding:.25rem 0 .25rem .8rem;margin:1rem 0}',
  'h2{font-size:1.1rem;margin:2rem 0 .5rem}a{color:LinkText}a.button{color:ButtonText}[hidden]{display:none}',
  '.secret{-webkit-text-security:disc}',
  '.rows{list-style:none;padding:0}.rows li{display:flex;gap:1rem;align-items:center;justify-content:space-between;',
  'border-top:1px solid var(--line);padding:.6rem 0}.rows span{min-width:0;overflow-wrap:anywhere}.rows button{width:auto;margin:0;white-space:nowrap}',
  'pre{font:.875rem/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;',
  'border:1px solid var(--line);border-radius:.4rem;padding:.75rem 1rem;margin:1rem 0}',
  'small,.soft{color:var(--soft);font-size:.875rem}code{overflow-wrap:anywhere}',
].join('');
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');

export interface PageFacts {
  readonly title: string;
  readonly body: Markup;
  readonly status?: number;
  /** Where a form of this page may end up by redirects, besides here (Chromium follows `form-action` through them). */
  readonly formTarget?: string | undefined;
  /** Where the browser goes by itself. No redirect: `form-action` would hold for all that follows the form. */
  readonly goOn?: string | undefined;
  /** Of a script file of our own, for passkeys. */
  readonly script?: string | undefined;
}

export async function sendPage(context: KoaContextWithOIDC, facts: PageFacts): Promise<void> {
  const { title, body, status = 200, script, goOn } = facts;
  context.status = status;
  context.type = 'text/html; charset=utf-8';
  context.set('cache-control', 'no-store');
  context.set('content-security-policy', policyOf(facts));
  context.set('referrer-policy', 'no-referrer');
  context.set('x-content-type-options', 'nosniff');
  context.set('x-frame-options', 'DENY');
  context.set('cross-origin-opener-policy', 'same-origin');
  const page = await html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
${raw(`<style>${STYLE}</style>`)}
${goOn === undefined ? '' : html`<meta http-equiv="refresh" content="0; url=${goOn}">`}
${script === undefined ? '' : html`<script type="module" src="${script}"></script>`}
</head>
<body>
<main>
${body}
</main>
</body>
</html>
`;
  context.body = page.toString();
}

function policyOf({ formTarget, script }: PageFacts): string {
  const form = ["'self'", ...(formTarget === undefined ? [] : [formTarget])].join(' ');
  return [
    "default-src 'none'",
    `style-src 'sha256-${STYLE_HASH}'`,
    ...(script === undefined ? [] : ["script-src 'self'"]),
    `form-action ${form}`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

/** A message of ours, as people read it. */
export const sentence = (text: string): string =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}.`.replace(/\.\.$/, '.');

export const faultOf = (fault: string | undefined): Markup | '' =>
  fault === undefined ? '' : html`<p class="fault" role="alert">${fault}</p>`;

/** The origin of a redirect URI, or its scheme where it has no origin, as a source of a policy. */
export function formTargetOf(redirectUri: string): string | undefined {
  const url = URL.parse(redirectUri);
  if (!url) return undefined;
  // A policy can't name an IPv6 address. @see {@link https://www.w3.org/TR/CSP3/#grammardef-host-part | CSP 3 §2.3.1}
  return url.origin === 'null' || url.hostname.startsWith('[') ? url.protocol : url.origin;
}
