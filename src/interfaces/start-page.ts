/** What a person sees at `/` of the control host: what this is and how to connect. No script, nothing from elsewhere. */
import { createHash } from 'node:crypto';
import type { Exchange } from '../core/exchange.ts';
import { escapeHtml } from '../core/html.ts';

const STYLE =
  'body{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:4rem auto;padding:0 1.5rem;color:#1a1a1a;background:#fff}' +
  'code,pre{font:14px/1.5 ui-monospace,monospace;background:#f2f2f2;border-radius:4px}code{padding:.1rem .3rem}' +
  'pre{padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{color:#e8e8e8;background:#161616}' +
  'code,pre{background:#262626}a{color:#8ab4f8}}';
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');
const CSP = `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
const OK = 200;

export function createStartPage(): (exchange: Exchange) => void {
  return ({ headers, method, reply, scheme, authority }) => {
    const origin = `${scheme}://${authority}`;
    const html = headers.accept?.includes('text/html') === true;
    const text = html ? htmlPage(origin) : textPage(origin);
    reply.writeHead(OK, {
      'content-type': html ? 'text/html; charset=utf-8' : 'text/plain; charset=utf-8',
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-store',
      'content-security-policy': CSP,
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      vary: 'accept',
    });
    if (method === 'HEAD') reply.end();
    else reply.end(text);
  };
}

const commandFor = (origin: string) =>
  `claude mcp add --transport http ohp ${origin}/mcp --header "Authorization: Bearer $OHP_TOKEN"`;

function textPage(origin: string): string {
  return `OAuth HTTPS Proxy: an HTTPS edge that is operated through MCP.

MCP endpoint   ${origin}/mcp
REST           ${origin}/v1/ (described by ${origin}/openapi.json)
Health         ${origin}/healthz

Connect Claude Code, with a token in OHP_TOKEN (the first start printed the administrator's; create_token makes more):
  ${commandFor(origin)}
`;
}

function htmlPage(origin: string): string {
  const url = escapeHtml(origin);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>OAuth HTTPS Proxy</title>
<style>${STYLE}</style>
</head>
<body>
<h1>OAuth HTTPS Proxy</h1>
<p>An HTTPS edge that is operated through MCP.</p>
<p>MCP endpoint: <code>${url}/mcp</code></p>
<p>Connect Claude Code, with a token in <code>OHP_TOKEN</code>:</p>
<pre>${escapeHtml(commandFor(origin))}</pre>
<p>The first start printed the administrator's token; <code>create_token</code> makes more.</p>
<p>REST lives under <code>/v1/</code> and is described by <a href="/openapi.json">openapi.json</a>. <a href="/healthz">Health</a>.</p>
</body>
</html>
`;
}
