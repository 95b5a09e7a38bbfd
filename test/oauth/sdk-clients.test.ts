/**
 * Current clients sign in for real: the SDK's v2 (as a bearer, and with a key of its own) and v1, each with its own
 * OAuth code, from the challenge to the call of a tool. Only the person is scripted.
 */
import assert from 'node:assert/strict';
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
import { Person, REDIRECT_URI, startOnFixedPorts } from '../support/oauth.ts';
import type { Product } from '../support/product.ts';

let product: Product;
let person: Person;
let agent: Agent;

before(async () => {
  product = await startOnFixedPorts({ env: { OHP_CONFIG: configFile(generous) } });
  person = new Person(product);
  agent = new Agent({ connect: { ca: product.ca } });
});
after(async () => {
  await agent.destroy();
  await product[Symbol.asyncDispose]();
});

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

for (const [name, keeper] of [
  ['as a bearer', () => new Keeper()],
  ['with a key of its own (DPoP)', () => new KeeperOfKey()],
] as const)
  test(`the SDK's v2 client signs in ${name}, and calls a tool`, async () => {
    const kept = keeper();
    const authProvider = kept as unknown as OAuthClientProvider;
    const open = () =>
      new StreamableHTTPClientTransport(new URL(person.mcp), { authProvider, fetch: trusting });
    const first = open();
    const client = () =>
      new Client({ name: 'v2', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } });
    await assert.rejects(client().connect(first), UnauthorizedError);
    assert.ok(kept.code);
    await first.finishAuth(kept.code, kept.iss);
    const connected = client();
    await connected.connect(open());
    const { tools } = await connected.listTools();
    assert.ok(tools.some(({ name: tool }) => tool === 'list_proxies'));
    const result = await connected.callTool({ name: 'list_proxies', arguments: {} });
    assert.notEqual(result.isError, true);
    assert.equal(kept.tokens().token_type.toLowerCase(), kept instanceof KeeperOfKey ? 'dpop' : 'bearer');
    await connected.close();
  });

test("the SDK's v1 client signs in, and calls a tool", async () => {
  const kept = new Keeper();
  // Its types are from before exactOptionalPropertyTypes.
  const open = () => new TransportV1(new URL(person.mcp), { authProvider: kept, fetch: trusting } as any);
  const first = open();
  await assert.rejects(new ClientV1({ name: 'v1', version: '1.0.0' }).connect(first as any), UnauthorizedV1);
  await first.finishAuth(kept.code ?? '');
  const connected = new ClientV1({ name: 'v1', version: '1.0.0' });
  await connected.connect(open() as any);
  const result = await connected.callTool({ name: 'list_proxies', arguments: {} });
  assert.notEqual(result.isError, true);
  await connected.close();
});

test('a client that asks for nothing in particular is asked for the scope of the challenge', async () => {
  const kept = new Keeper();
  const authProvider = kept as unknown as OAuthClientProvider;
  const transport = new StreamableHTTPClientTransport(new URL(person.mcp), { authProvider, fetch: trusting });
  await assert.rejects(new Client({ name: 'v2', version: '1.0.0' }).connect(transport), UnauthorizedError);
  assert.match(kept.asked[0] ?? '', /^viewer( offline_access)?$/);
});
