/**
 * A CA (RFC 8555) that keeps to the protocol and says what it likes: problem documents in place of an answer where the test
 * wants, and texts of its own in every field that has room for them. It signs nothing.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { json as jsonOf } from 'node:stream/consumers';
import { makeCa, makeLeaf } from '../../src/certificates/openssl.fixture.ts';

export interface HostileCa extends AsyncDisposable {
  readonly directoryUrl: string;
  /** Of one that refuses to say even where it does what. */
  readonly refusingUrl: string;
  readonly trustPem: string;
  /** Which steps were asked for, in order. */
  readonly asked: string[];
}

export interface HostileCaOptions {
  /** Of the directory. */
  meta: object;
  /** A problem document in place of the answer, or as the `error` of a challenge; `name`: of the hostname, where there is one. */
  refuse: (step: 'directory' | 'newAccount' | 'newOrder' | 'challenge', name: string) => object | undefined;
}

export async function startHostileCa({ meta, refuse }: HostileCaOptions): Promise<HostileCa> {
  const authority = makeCa('/CN=Trust of a CA');
  const { certificatePem: cert, keyPem: key } = makeLeaf([], authority, {
    subject: '/CN=localhost',
    extensions: ['subjectAltName=DNS:localhost', 'extendedKeyUsage=serverAuth'],
  });
  const asked: string[] = [];
  let nonces = 0;
  const server = createServer({ cert, key }, (request, response) => {
    answer(request, response).catch(() => response.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `https://localhost:${(server.address() as AddressInfo).port}`;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, step = '', name = ''] = (request.url ?? '').split('/');
    asked.push(step);
    const headers = { 'replay-nonce': `nonce${nonces++}`, 'content-type': 'application/json' };
    const give = (value: object, status = 200, more: Record<string, string> = {}) =>
      void response.writeHead(status, { ...headers, ...more }).end(JSON.stringify(value));
    const refuseWith = (problem: object) =>
      give(problem, 400, { 'content-type': 'application/problem+json' });
    if (step === 'newNonce') return void response.writeHead(200, headers).end();
    if (step === 'dir') return give({ ...directory(), meta });
    if (step === 'refusing') return refuseWith(refuse('directory', '') ?? {});
    const payload = await payloadOf(request);
    if (step === 'newAccount') {
      const problem = refuse('newAccount', '');
      return problem
        ? refuseWith(problem)
        : give({ status: 'valid' }, 201, { location: `${origin}/account/1` });
    }
    const wanted = step === 'newOrder' ? String(payload?.identifiers[0].value) : name;
    const problem = step === 'newOrder' ? refuse('newOrder', wanted) : undefined;
    if (problem) return refuseWith(problem);
    if (step === 'newOrder') return give(order(wanted), 201, { location: `${origin}/order/${wanted}` });
    return give(step === 'order' ? order(wanted) : authorization(wanted));
  }

  const directory = () => {
    const steps = ['newNonce', 'newAccount', 'newOrder', 'revokeCert', 'keyChange'];
    return Object.fromEntries(steps.map((step) => [step, `${origin}/${step}`]));
  };
  const order = (name: string) => ({
    status: 'pending',
    identifiers: [{ type: 'dns', value: name }],
    authorizations: [`${origin}/authorization/${name}`],
    finalize: `${origin}/finalize/${name}`,
  });
  /** Of a wildcard it waits to be shown; what else there is, was not shown. */
  const authorization = (name: string) => {
    const isWildcard = name.startsWith('*.');
    const status = isWildcard ? 'pending' : 'invalid';
    const challenge = {
      type: isWildcard ? 'dns-01' : 'http-01',
      url: `${origin}/challenge/${name}`,
      status,
      token: 'token',
      ...(!isWildcard && { error: refuse('challenge', name) }),
    };
    const identifier = { type: 'dns', value: name.replace('*.', '') };
    return { identifier, status, ...(isWildcard && { wildcard: true }), challenges: [challenge] };
  };

  return {
    directoryUrl: `${origin}/dir`,
    refusingUrl: `${origin}/refusing`,
    trustPem: authority.certificatePem,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Of a JWS; undefined: POST-as-GET. */
// oxlint-disable-next-line typescript/no-explicit-any -- whatever the client sent
async function payloadOf(request: IncomingMessage): Promise<any> {
  const { payload } = (await jsonOf(request)) as { payload: string };
  return payload === '' ? undefined : JSON.parse(Buffer.from(payload, 'base64url').toString());
}
