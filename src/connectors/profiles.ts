/**
 * What each client does on its way in, as data. A row says what was seen or is documented, and where; a client that
 * changes its ways changes a row. Order matters: what is first is tried first.
 */
import type { ClientId } from './schema.ts';

export type MetadataForm = 'challenge' | 'path' | 'root';
export type ServerForm = 'oauth' | 'openid';
export type Registration = 'document' | 'dynamic';
export type Era = 'modern' | 'legacy';

export interface Profile {
  readonly id: ClientId;
  readonly name: string;
  /** `hosted`: its requests come from the servers of its maker; `local`: from the person's machine. */
  readonly runs: 'hosted' | 'local';
  /** In its User-Agent. */
  readonly agents: RegExp;
  /** Published ranges that its requests come from. */
  readonly egress: readonly (readonly [network: string, bits: number])[];
  /** Of its first request; afterwards each asks for both types. */
  readonly probeAccept: string;
  /** Of the page that asks, where it runs in a browser. */
  readonly origin: string | undefined;
  readonly metadata: readonly MetadataForm[];
  readonly server: readonly ServerForm[];
  /** `exact`: to the letter; `within`: the same origin, and a path at or above the URL. */
  readonly resource: 'exact' | 'within';
  /** Takes a slash at the end off the URL that was pasted. */
  readonly stripsSlash: boolean;
  /** Refuses a challenge whose `resource_metadata` is relative. */
  readonly needsAbsolute: boolean;
  readonly registration: readonly Registration[];
  /** Its metadata for RFC 7591 §2. */
  readonly registers: Readonly<Record<string, unknown>> & { readonly redirect_uris: readonly string[] };
  /** Which one of them is used in a sign-in. */
  readonly redirectUri: string;
  readonly eras: readonly Era[];
  readonly sources: readonly string[];
}

/** @see MCP 2026-07-28, Transports, Streamable HTTP */
export const BOTH = 'application/json, text/event-stream';
const code = { grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] };
const SPECIFICATION = 'MCP 2026-07-28, Authorization';

const claude: Profile = {
  id: 'claude',
  name: 'Claude',
  runs: 'hosted',
  agents: /claude|anthropic/i,
  egress: [['160.79.104.0', 21]],
  probeAccept: '*/*',
  origin: undefined,
  metadata: ['challenge', 'path', 'root'],
  server: ['oauth', 'openid'],
  resource: 'within',
  stripsSlash: true,
  needsAbsolute: true,
  registration: ['document', 'dynamic'],
  registers: {
    client_name: 'Claude',
    redirect_uris: ['https://claude.ai/api/mcp/auth_callback', 'https://claude.com/api/mcp/auth_callback'],
    ...code,
    token_endpoint_auth_method: 'none',
  },
  redirectUri: 'https://claude.ai/api/mcp/auth_callback',
  eras: ['modern', 'legacy'],
  sources: [
    'https://github.com/anthropics/claude-ai-mcp/issues/217 (Accept, metadata), /234 (slash), /410 (challenge), /966 (registration)',
    'https://github.com/anthropics/claude-ai-mcp/issues/313 (callback)',
  ],
};

const chatgpt: Profile = {
  id: 'chatgpt',
  name: 'ChatGPT',
  runs: 'hosted',
  agents: /openai|chatgpt/i,
  egress: [],
  probeAccept: BOTH,
  origin: undefined,
  metadata: ['challenge', 'path', 'root'],
  server: ['oauth', 'openid'],
  resource: 'within',
  stripsSlash: false,
  needsAbsolute: true,
  registration: ['document', 'dynamic'],
  registers: {
    client_name: 'ChatGPT',
    redirect_uris: ['https://chatgpt.com/connector_platform_oauth_redirect'],
    ...code,
    token_endpoint_auth_method: 'none',
  },
  redirectUri: 'https://chatgpt.com/connector_platform_oauth_redirect',
  eras: ['legacy'],
  sources: [
    'https://developers.openai.com/plugins/build/auth (metadata, registration, resource sent as it is told)',
    'https://github.com/makeplane/plane-mcp-server/pull/165 (callbacks)',
  ],
};

const vscode: Profile = {
  id: 'vscode',
  name: 'VS Code',
  runs: 'local',
  agents: /visual studio code|vscode|code-oss/i,
  egress: [],
  probeAccept: BOTH,
  origin: undefined,
  metadata: ['challenge', 'path', 'root'],
  server: ['oauth', 'openid'],
  resource: 'exact',
  stripsSlash: false,
  needsAbsolute: true,
  registration: ['document', 'dynamic'],
  registers: {
    client_name: 'Visual Studio Code',
    redirect_uris: [
      'https://insiders.vscode.dev/redirect',
      'https://vscode.dev/redirect',
      'http://127.0.0.1/',
      'http://127.0.0.1:33418/',
    ],
    ...code,
    token_endpoint_auth_method: 'none',
    application_type: 'native',
  },
  // The port is another one where its own is taken.
  redirectUri: 'http://127.0.0.1:59656/',
  eras: ['modern', 'legacy'],
  sources: [
    'https://github.com/microsoft/vscode/issues/278512 (redirect URIs, port), /259251 (resource to the letter)',
    'https://github.com/microsoft/vscode/issues/273655 (metadata)',
  ],
};

const cursor: Profile = {
  id: 'cursor',
  name: 'Cursor',
  runs: 'local',
  agents: /cursor/i,
  egress: [],
  probeAccept: BOTH,
  origin: undefined,
  metadata: ['challenge', 'path', 'root'],
  server: ['oauth', 'openid'],
  resource: 'within',
  stripsSlash: false,
  needsAbsolute: true,
  registration: ['dynamic'],
  registers: {
    client_name: 'Cursor',
    redirect_uris: [
      'cursor://anysphere.cursor-mcp/oauth/callback',
      'https://www.cursor.com/agents/mcp/oauth/callback',
      'http://localhost:8787/callback',
    ],
    ...code,
    token_endpoint_auth_method: 'none',
  },
  redirectUri: 'cursor://anysphere.cursor-mcp/oauth/callback',
  eras: ['legacy'],
  sources: [
    'https://github.com/erp-mafia/accounted/pull/2225 (three redirect URIs at once)',
    'https://github.com/different-ai/openwork/pull/3059 (no client secret)',
  ],
};

const inspector: Profile = {
  id: 'inspector',
  name: 'Inspector',
  runs: 'local',
  agents: /inspector|mozilla/i,
  egress: [],
  probeAccept: BOTH,
  origin: 'http://localhost:6274',
  metadata: ['challenge', 'path', 'root'],
  server: ['oauth', 'openid'],
  resource: 'within',
  stripsSlash: false,
  needsAbsolute: true,
  registration: ['dynamic'],
  registers: {
    client_name: 'MCP Inspector',
    redirect_uris: ['http://localhost:6274/oauth/callback'],
    ...code,
    token_endpoint_auth_method: 'none',
    client_uri: 'https://github.com/modelcontextprotocol/inspector',
  },
  redirectUri: 'http://localhost:6274/oauth/callback',
  eras: ['modern', 'legacy'],
  sources: [
    'https://github.com/modelcontextprotocol/inspector/issues/391, /960, /995 (CORS)',
    `${SPECIFICATION} (it is on the SDK)`,
  ],
};

export const profiles: readonly Profile[] = [claude, chatgpt, vscode, cursor, inspector];
