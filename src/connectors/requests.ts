/** The first messages of a client, in each era, as it sends them. */
import { BOTH, type Era, type Profile } from './profiles.ts';
import type { Asked } from './wire.ts';

const MODERN = '2026-07-28';
export const versions: Readonly<Record<Era, string>> = { modern: MODERN, legacy: '2025-11-25' };
const clientInfo = { name: 'diagnose-connector', version: '1' };

/** @see MCP 2026-07-28, Discovery, and MCP 2025-11-25, Lifecycle, Initialization */
export function hello(era: Era, { origin }: Profile, accept: string = BOTH): Asked & { body: string } {
  const message =
    era === 'modern'
      ? {
          method: 'server/discover',
          params: {
            _meta: {
              'io.modelcontextprotocol/protocolVersion': MODERN,
              'io.modelcontextprotocol/clientCapabilities': {},
              'io.modelcontextprotocol/clientInfo': clientInfo,
            },
          },
        }
      : {
          method: 'initialize',
          params: { protocolVersion: versions.legacy, capabilities: {}, clientInfo },
        };
  return {
    method: 'POST',
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...message }),
    headers: {
      accept,
      'content-type': 'application/json',
      ...(era === 'modern' && { 'mcp-protocol-version': MODERN, 'mcp-method': 'server/discover' }),
      ...(origin !== undefined && { origin }),
    },
  };
}

export const withToken = (asked: Asked, token: string): Asked => ({
  ...asked,
  headers: { ...asked.headers, authorization: `Bearer ${token}` },
  once: true,
});
