/**
 * Current clients sign in for real: the SDK's v2 (as a bearer, and with a key of its own) and v1, each with its own
 * OAuth code, from the challenge to the call of a tool, here and at somebody else's MCP server behind the proxy. Only the
 * person is scripted.
 */
import assert from 'node:assert/strict';
import type { LookupFunction } from 'node:net';
import { after, before, test } from 'node:test';
import {
  Client,
  DpopSession,
  type OAuthClientProvider,
  StreamableHTTPClientTransport,
  UnauthorizedError,
} from '@modelcontextprotocol/client';
import { UnauthorizedError as UnauthorizedV1 } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Agent, fetch as fetchWith } from 'undici';
import { configFile, generous } from '../support/callers.ts';
import { startMcpUpstream } from '../support/mcp-upstream.ts';
import { Person, REDIRECT_URI, startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';
import type { Upstream } from '../support/upstream.ts';

let product: Product;
let person: Person;
let agent: Agent;
let notes: Upstream;

const NOTES = 'notes.example.com';

before(async () => {
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
  agent = new Agent({ connect: { ca: product.ca, lookup: toThisMachine } });
  notes = await startMcpUpstream();
  const made = await product.api('POST', '/v1/proxies', {
    hostname: NOTES,
    target_url: notes.url,
    serve_mcp: false,
  });
  assert.equal(made.status, 201);
  const policy = { allow: { everyone: true } };
  assert.equal((await product.api('PUT', `/v1/proxies/${NOTES}/protection`, policy)).status, 200);
});
after(async () => {
  await agent.destroy();
  for (const one of [product, notes]) await one[Symbol.asyncDispose]();
});

/** Names that no name service knows. */
const toThisMachine: LookupFunction = (_hostname, { all }, found) =>
  all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4);

interface Place {
  readonly url: () => string;
  readonly tool: string;
  /** Of what the tool says. */
  readonly holds: RegExp;
}

const places: Record<string, Place> = {
  here: { url: () => person.mcp, tool: 'list_proxies', holds: /notes\.example\.com/ },
  'at an MCP server behind the proxy': {
    url: () => `https://${NOTES}:${product.httpsPort}/mcp`,
    tool: 'who_calls',
    holds: /"text":"root"/,
  },
};

/** Node's own types of fetch and those of the package say the same in other words. */
const trusting = (async (url: string | URL, init?: object) => {
  const { body, status, headers } = await fetchWith(url, { ...init, dispatcher: agent });
  const isEmpty = [204, 205, 304].includes(status);
  // The clients ask whether it is a `Response` of Node's own.
  return new Response(isEmpty ? null : (body as unknown as ReadableStream), {
    status,
    headers: Object.fromEntries(headers),
  });
}) as typeof fetch;

/** What a client keeps of its sign-in; the person goes where they are sent, and agrees. */
class Keeper {
  readonly redirectUrl = REDIRECT_URI;
  readonly clientMetadata = {
    client_name: 'An SDK client',
    redirect_uris: [REDIRECT_URI],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  };
  code: string | undefined;
  iss: string | undefined;
  asked: string[] = [];
  #client: unknown;
  #tokens: unknown;
  #verifier = '';
  #discovery: unknown;

  state = (): string => 'state-of-the-test';
  clientInformation = (): any => this.#client;
  saveClientInformation = (client: unknown): void => void (this.#client = client);
  tokens = (): any => this.#tokens;
  saveTokens = (tokens: unknown): void => void (this.#tokens = tokens);
  saveCodeVerifier = (verifier: string): void => void (this.#verifier = verifier);
  codeVerifier = (): string => this.#verifier;
  saveDiscoveryState = (state: unknown): void => void (this.#discovery = state);
  discoveryState = (): any => this.#discovery;

  async redirectToAuthorization(url: URL): Promise<void> {
    this.asked.push(url.searchParams.get('scope') ?? '');
    const { url: back } = await person.agree(await person.visitor.open(url));
    assert.ok(back.href.startsWith(REDIRECT_URI), back.href);
    assert.equal(back.searchParams.get('state'), 'state-of-the-test');
    this.code = back.searchParams.get('code') ?? undefined;
    this.iss = back.searchParams.get('iss') ?? undefined;
  }
}

class KeeperOfKey extends Keeper {
  readonly #session = DpopSession.create();
  dpop = () => this.#session;
}

const keepers: Record<string, () => Keeper> = {
  'as a bearer': () => new Keeper(),
  'with a key of its own (DPoP)': () => new KeeperOfKey(),
};

for (const [where, { url, tool, holds }] of Object.entries(places)) {
  for (const [how, keeper] of Object.entries(keepers))
    test(`the SDK's v2 client signs in ${how}, and calls a tool ${where}`, async () => {
      const kept = keeper();
      const authProvider = kept as unknown as OAuthClientProvider;
      const open = () => new StreamableHTTPClientTransport(new URL(url()), { authProvider, fetch: trusting });
      const first = open();
      const client = () =>
        new Client({ name: 'v2', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
      await assert.rejects(client().connect(first), UnauthorizedError);
      assert.ok(kept.code);
      await first.finishAuth(kept.code, kept.iss);
      const connected = client();
      await connected.connect(open());
      assert.equal(connected.getNegotiatedProtocolVersion(), '2026-07-28');
      const { tools } = await connected.listTools();
      assert.ok(tools.some(({ name }) => name === tool));
      const result = await connected.callTool({ name: tool, arguments: {} });
      assert.notEqual(result.isError, true);
      assert.match(JSON.stringify(result), holds);
      assert.equal(kept.tokens().token_type.toLowerCase(), kept instanceof KeeperOfKey ? 'dpop' : 'bearer');
      await connected.close();
    });

  test(`the SDK's v1 client signs in, and calls a tool ${where}`, async () => {
    const kept = new Keeper();
    // Its types are from before exactOptionalPropertyTypes.
    const open = () => new TransportV1(new URL(url()), { authProvider: kept, fetch: trusting } as any);
    const first = open();
    await assert.rejects(
      new ClientV1({ name: 'v1', version: '1.0.0' }).connect(first as any),
      UnauthorizedV1,
    );
    await first.finishAuth(kept.code ?? '');
    const connected = new ClientV1({ name: 'v1', version: '1.0.0' });
    await connected.connect(open() as any);
    const result = await connected.callTool({ name: tool, arguments: {} });
    assert.notEqual(result.isError, true);
    assert.match(JSON.stringify(result), holds);
    await connected.close();
  });
}

test("the target gets the caller's name from the gateway, and neither token nor proof", () => {
  assert.ok(notes.requests.length > 0);
  for (const { headers } of notes.requests) {
    assert.equal(headers['x-auth-user'], 'root');
    assert.deepEqual([headers.authorization, headers['dpop']], [undefined, undefined]);
  }
});

test('a client that asks for nothing in particular is asked for the scope of the challenge', async () => {
  const kept = new Keeper();
  const authProvider = kept as unknown as OAuthClientProvider;
  const transport = new StreamableHTTPClientTransport(new URL(person.mcp), { authProvider, fetch: trusting });
  await assert.rejects(new Client({ name: 'v2', version: '1.0.0' }).connect(transport), UnauthorizedError);
  assert.match(kept.asked[0] ?? '', /^viewer( offline_access)?$/);
});
