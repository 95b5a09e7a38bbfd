/** Paths that belong to the gateway on every hostname that it serves. */

/** @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-3.1 | RFC 9728 §3.1} */
export const METADATA_PATH = '/.well-known/oauth-protected-resource';
/** @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-8.3 | RFC 8555 §8.3} */
export const ACME_PREFIX = '/.well-known/acme-challenge/';

export const mcpPaths: ReadonlySet<string> = new Set(['/mcp', '/mcp/']);
export const metadataPaths: ReadonlySet<string> = new Set(
  ['', ...mcpPaths].map((path) => METADATA_PATH + path),
);
