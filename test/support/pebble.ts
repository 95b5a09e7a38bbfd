/**
 * Pebble, the ACME CA of Let's Encrypt for tests, as strict as it can be, with a DNS server whose answers the test
 * decides. Names without an answer of their own are at 127.0.0.1.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { makeCa, makeLeaf } from '../../src/certificates/openssl.fixture.ts';
import { freePort } from './free-port.ts';
import { isInstalled, isListening, startProgram } from './program.ts';

/** For `skip`: false, or why. */
export const withoutPebble =
  !(isInstalled('pebble') && isInstalled('pebble-challtestsrv') && isInstalled('openssl')) &&
  'pebble, pebble-challtestsrv or openssl is not installed here';

export interface PebbleOptions {
  /** Where the CA looks for HTTP-01 and TLS-ALPN-01. */
  httpPort?: number;
  tlsPort?: number;
  /** Key id → HMAC key in base64url; given, an external account is required. */
  externalAccounts?: Readonly<Record<string, string>>;
  /** Address and port of who answers it; without, the DNS is the test's, by `dns`. */
  dnsServer?: string;
  /** `PEBBLE_…` as its documentation has them. Each root and each link of a chain is an RSA key that its start waits for. */
  env?: Readonly<Record<string, string>>;
}

export interface Pebble extends AsyncDisposable {
  readonly directoryUrl: string;
  /** PEM: who signed the certificate of the CA's own server. */
  readonly trustPem: string;
  /** A certificate for localhost and 127.0.0.1 by the same authority. */
  readonly serverCertificate: { certificatePem: string; keyPem: string };
  /** PEM of the root that signs: of the chain that comes by default (0) and of alternates. */
  root(index: number): Promise<string>;
  /** "Valid" or "Revoked", and why; by serial number in hexadecimal. */
  statusOf(serial: string): Promise<{ Status: string; Reason?: number }>;
  dns: TestDns;
}

export interface TestDns {
  setTxt(name: string, value: string): Promise<void>;
}

export async function startPebble(options: PebbleOptions = {}): Promise<Pebble> {
  const { httpPort = await freePort(), tlsPort = await freePort(), externalAccounts, env } = options;
  const folder = mkdtempSync(join(tmpdir(), 'pebble-'));
  const authority = makeCa('/CN=Trust of Pebble');
  const server = makeLeaf([], authority, {
    subject: '/CN=localhost',
    extensions: ['subjectAltName=DNS:localhost,IP:127.0.0.1', 'extendedKeyUsage=serverAuth'],
  });
  const [port, management, dnsPort, dnsManagement] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  writeFileSync(join(folder, 'cert.pem'), server.certificatePem);
  writeFileSync(join(folder, 'key.pem'), server.keyPem);
  const config = {
    listenAddress: `127.0.0.1:${port}`,
    managementListenAddress: `127.0.0.1:${management}`,
    certificate: join(folder, 'cert.pem'),
    privateKey: join(folder, 'key.pem'),
    httpPort,
    tlsPort,
    ocspResponderURL: '',
    externalAccountBindingRequired: externalAccounts !== undefined,
    ...(externalAccounts && { externalAccountMACKeys: externalAccounts }),
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ pebble: config }));
  const { dnsServer: resolver = `127.0.0.1:${dnsPort}` } = options;
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const dns =
    options.dnsServer === undefined
      ? stack.use(startProgram(dnsServer(resolver, dnsManagement), { cwd: folder }))
      : undefined;
  const pebble = stack.use(
    startProgram(['pebble', '-strict', '-config', join(folder, 'config.json'), '-dnsserver', resolver], {
      cwd: folder,
      env: {
        PEBBLE_VA_NOSLEEP: '1',
        PEBBLE_WFE_NONCEREJECT: '20',
        PEBBLE_AUTHZREUSE: '0',
        ...env,
      },
    }),
  );
  await Promise.all([
    dns?.until(() => isListening(dnsManagement), 'the DNS server'),
    pebble.until(() => isListening(port), 'Pebble'),
    pebble.until(() => isListening(management), 'the management of Pebble'),
  ]);
  const agent = new Agent({ connect: { ca: authority.certificatePem } });
  stack.defer(() => agent.destroy());
  const owned = stack.move();
  const manage = async (path: string): Promise<string> => {
    const reply = await request(`https://localhost:${management}${path}`, { dispatcher: agent });
    return reply.body.text();
  };
  return {
    directoryUrl: `https://localhost:${port}/dir`,
    trustPem: authority.certificatePem,
    serverCertificate: server,
    root: (index) => manage(`/roots/${index}`),
    statusOf: async (serial) => JSON.parse(await manage(`/cert-status-by-serial/${serial.toLowerCase()}`)),
    dns: testDns(async (path, body) => {
      const reply = await request(`http://127.0.0.1:${dnsManagement}${path}`, { method: 'POST', body });
      if (reply.statusCode !== 200) throw new Error(await reply.body.text());
      await reply.body.dump();
    }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The command line of one that answers at `address`. */
export const dnsServer = (address: string, managementPort: number): string[] => {
  const options = {
    defaultIPv4: '127.0.0.1',
    defaultIPv6: '',
    dns01: address,
    http01: '',
    https01: '',
    tlsalpn01: '',
    management: `127.0.0.1:${managementPort}`,
  };
  return ['pebble-challtestsrv', ...Object.entries(options).flatMap(([name, value]) => [`-${name}`, value])];
};

export function testDns(post: (path: string, body: string) => Promise<void>): TestDns {
  return { setTxt: (name, value) => post('/set-txt', JSON.stringify({ host: `${name}.`, value })) };
}
