/** What a start prints: where it answers, the administrator's token the one time it is known, and commands ready to copy. */
import type { Config } from './config/config.ts';

export interface StartFacts {
  version: string;
  /** Ports that were bound; they differ from the configuration where that says 0. */
  httpPort: number;
  httpsPort: number;
  caFile: string;
  /** Only at the first start, and only when it was generated. */
  administratorToken: string | undefined;
  proxies: number;
}

const HTTPS_DEFAULT_PORT = 443;

export function welcome(config: Config, facts: StartFacts): string {
  const host = config.control.hosts[0] ?? 'localhost';
  const base = `http://localhost:${facts.httpPort}`;
  const secureBase = `https://${host}${facts.httpsPort === HTTPS_DEFAULT_PORT ? '' : `:${facts.httpsPort}`}`;
  return `${[
    `OAuth HTTPS Proxy ${facts.version} is ready. It serves ${facts.proxies} ${facts.proxies === 1 ? 'proxy' : 'proxies'}.`,
    '',
    `  MCP        ${base}/mcp`,
    `             ${secureBase}/mcp   (trust the CA first)`,
    `  CA         ${facts.caFile}`,
    ...tokenLines(facts),
    '',
    'Connect (put the token into OHP_TOKEN first: export OHP_TOKEN=...):',
    `  Claude Code  claude mcp add --transport http ohp ${base}/mcp --header "Authorization: Bearer $OHP_TOKEN"`,
    `  Inspector    npx @modelcontextprotocol/inspector@2.12.0 --transport http --server-url ${base}/mcp --header "Authorization: Bearer $OHP_TOKEN"   (Node >= 22.19)`,
    `  curl         curl ${base}/mcp -H "Authorization: Bearer $OHP_TOKEN" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\`,
    `                 -d '{"method":"initialize","params":{"protocolVersion":"2025-06-18"},"jsonrpc":"2.0","id":0}'`,
    `  CLI          npx ohp login ${base}   (asks for the token), then npx ohp list proxies`,
    '',
    'Trust the CA:',
    `  curl         curl --cacert ${facts.caFile} ${secureBase}/healthz`,
    `  Node         export NODE_EXTRA_CA_CERTS=${facts.caFile}`,
    `  Debian       sudo cp ${facts.caFile} /usr/local/share/ca-certificates/ohp.crt && sudo update-ca-certificates`,
    `  macOS        sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain ${facts.caFile}`,
    '',
  ].join('\n')}\n`;
}

function tokenLines({ administratorToken }: StartFacts): string[] {
  if (administratorToken === undefined)
    return ['  Token      as printed or set at the first start; only its hash is kept'];
  return [
    `  Token      ${administratorToken}`,
    "             (the administrator's; it is shown this once, only its hash is kept)",
  ];
}
