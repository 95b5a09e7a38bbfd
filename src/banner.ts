/** What a start prints: where it answers, the administrator's token the one time it is known, and commands ready to copy. */
import type { OwnUrls } from './gateway/own-urls.ts';

export interface StartFacts {
  version: string;
  urls: OwnUrls;
  /** Where metrics have a listener of their own. */
  metrics: string | undefined;
  caFile: string;
  /** Only at the first start, and only when it was generated. */
  administratorToken: string | undefined;
  /** One was set, but another one has been the administrator's since the first start. */
  adminTokenIgnored: boolean;
  proxies: number;
}

export function welcome(facts: StartFacts): string {
  const { plain, secure, isFronted } = facts.urls;
  const base = plain ?? secure;
  const trust = plain !== undefined || isFronted ? '' : `--cacert ${facts.caFile} `;
  return `${[
    `OAuth HTTPS Proxy ${facts.version} is ready. It serves ${facts.proxies} ${facts.proxies === 1 ? 'proxy' : 'proxies'}.`,
    '',
    ...urlLines(facts.urls).map((line, i) => `  ${i === 0 ? 'MCP' : '   '}        ${line}`),
    ...(facts.metrics === undefined ? [] : [`  Metrics    ${facts.metrics}`]),
    `  CA         ${facts.caFile}`,
    ...tokenLines(facts),
    '',
    'Connect:',
    '  Token        read -rs OHP_TOKEN && export OHP_TOKEN   (then paste it, Enter)',
    `  Claude Code  claude mcp add --transport http ohp ${base}/mcp --header "Authorization: Bearer $OHP_TOKEN"`,
    `  Inspector    npx @modelcontextprotocol/inspector@2.12.0 --transport http --server-url ${base}/mcp --header "Authorization: Bearer $OHP_TOKEN"   (Node >= 22.19)`,
    `  curl         curl ${trust}${base}/mcp -H "Authorization: Bearer $OHP_TOKEN" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\`,
    `                 -d '{"method":"initialize","params":{"protocolVersion":"2025-06-18"},"jsonrpc":"2.0","id":0}'`,
    `  CLI          npx ohp login ${base}${trust === '' ? '' : ` --ca-file ${facts.caFile}`}   (asks for the token), then npx ohp list proxies`,
    '',
    'Trust the CA:',
    `  curl         curl --cacert ${facts.caFile} ${secure}/healthz`,
    `  Node         export NODE_EXTRA_CA_CERTS=${facts.caFile}`,
    `  Debian       sudo cp ${facts.caFile} /usr/local/share/ca-certificates/ohp.crt && sudo update-ca-certificates`,
    `  macOS        sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain ${facts.caFile}`,
    '',
  ].join('\n')}\n`;
}

/** What does not answer is not told as if it did. */
function urlLines({ plain, secure, isFronted, unreachable }: OwnUrls): string[] {
  const told = plain === undefined ? [] : [`${plain}/mcp`];
  if (unreachable !== undefined) return [...told, `(over HTTPS: ${unreachable})`];
  return [...told, isFronted ? `${secure}/mcp` : `${secure}/mcp   (trust the CA first)`];
}

function tokenLines({ administratorToken, adminTokenIgnored }: StartFacts): string[] {
  if (adminTokenIgnored)
    return [
      '  Token      OHP_ADMIN_TOKEN is IGNORED: the administrator has another token since an earlier start',
      "             (to make it the administrator's: stop this, run npx ohp reset admin-token with it set, start again)",
    ];
  if (administratorToken === undefined)
    return [
      '  Token      as printed or set at the first start; only its hash is kept',
      '             (lost? stop this, run npx ohp reset admin-token, start again)',
    ];
  return [
    `  Token      ${administratorToken}`,
    "             (the administrator's; it is shown this once, only its hash is kept)",
  ];
}
