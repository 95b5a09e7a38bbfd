/** What the tests of the gateway share: a gateway on free ports, certificates of a test CA, proxies, raw sockets. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { systemClock } from '../../src/core/clock.ts';
import type { Exchange } from '../../src/core/exchange.ts';
import { LiveStreams } from '../../src/core/live-streams.ts';
import { expandPermissions, type Permission } from '../../src/core/permissions.ts';
import type { Principal } from '../../src/core/principal.ts';
import type { Log, LogRecord } from '../../src/core/record.ts';
import { type Proxy, proxySchema } from '../../src/proxies/schema.ts';
import { x509 } from '../../src/certificates/peculiar.fixture.ts';
import { type Route, routeSchema } from '../../src/routes/schema.ts';
import type { Handlers } from '../../src/gateway/core.ts';
import { createGateway, type Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts';
import type { GatewaySettings, McpGateSettings } from '../../src/gateway/settings.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
const ca = await x509.X509CertificateGenerator.createSelfSigned({
  name: 'CN=Test CA',
  keys,
  signingAlgorithm: algorithm,
  notBefore: new Date(Date.now() - 60_000),
  notAfter: new Date(Date.now() + 86_400_000),
  extensions: [
    new x509.BasicConstraintsExtension(true, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ],
});
export const caPem = ca.toString('pem');

export async function leafFor(...names: string[]): Promise<{ key: string; cert: string }> {
  const leafKeys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const leaf = await x509.X509CertificateGenerator.create({
    subject: `CN=${names[0]}`,
    issuer: ca.subject,
    publicKey: leafKeys.publicKey,
    signingKey: keys.privateKey,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 86_400_000),
    extensions: [
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: /^[\d.]+$/.test(value) ? 'ip' : 'dns', value })),
      ),
    ],
  });
  const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', leafKeys.privateKey)).toString('base64');
  return {
    cert: leaf.toString('pem'),
    key: `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`,
  };
}

const served = ['localhost', '127.0.0.1', '*.example.com', '*.example.org', 'example.net'];
const context = createSecureContext(await leafFor(...served));

/** As the certificates of this system would: nothing for names that are not served. */
async function selectCertificate(servername: string | undefined): Promise<SecureContext | undefined> {
  const isKnown =
    servername === undefined ||
    served.some((name) => name === servername || name.slice(1) === servername.slice(servername.indexOf('.')));
  return isKnown ? context : undefined;
}

const stamp = '2026-01-01T00:00:00.000Z';
let made = 0;

export function proxyOf(hostname: string, target: string, more: Partial<Proxy> = {}): Proxy {
  const id = `prx_${++made}`;
  return Object.freeze(
    proxySchema.parse({
      id,
      hostname,
      target_url: target,
      owner: 'tok_owner',
      version: 1,
      created_at: stamp,
      updated_at: stamp,
      ...more,
    }),
  );
}

export function routeOf(
  hostname: string | null,
  path: string,
  target: string,
  more: Partial<Route> = {},
): Route {
  return Object.freeze(
    routeSchema.parse({
      id: `rte_${++made}`,
      hostname,
      path,
      target_url: target,
      owner: 'tok_owner',
      version: 1,
      created_at: stamp,
      updated_at: stamp,
      ...more,
    }),
  );
}

export function principalOf(id: string, permissions: Permission[], hostnames?: string[]): Principal {
  return {
    id,
    name: id,
    kind: 'token',
    permissions: expandPermissions(permissions),
    hostnames,
    expiresAt: undefined,
  };
}

const defaults: GatewaySettings = {
  bind: '127.0.0.1',
  httpPort: 0,
  httpsPort: 0,
  controlHosts: ['localhost'],
  trustedProxies: [],
  headerTimeoutMs: 15_000,
  bodyTimeoutMs: 60_000,
  keepAliveTimeoutMs: 75_000,
  maxHeaderBytes: 32 * 1024,
  maxHeaders: 200,
  maxConnections: 10_000,
  maxConnectionsPerAddress: 1000,
  maxStreamsPerConnection: 128,
  drainTimeoutMs: 5000,
  mcp: {
    access: 'authenticated',
    hosts: [],
    allowedOrigins: [],
    callsPerMinute: 1200,
    callsPerMinutePerAddress: 3000,
    failuresPerMinutePerAddress: 60,
    scopes: ['system:read'],
    resourceName: 'Test',
  },
};

type SettingsOverrides = Partial<Omit<GatewaySettings, 'mcp'>> & { mcp?: Partial<McpGateSettings> };

export const settingsWith = (settings: SettingsOverrides = {}): GatewaySettings => ({
  ...defaults,
  ...settings,
  mcp: { ...defaults.mcp, ...settings.mcp },
});

type Overrides = Partial<Omit<GatewayOptions, 'settings'>> & {
  settings?: SettingsOverrides;
  proxies?: Proxy[];
  routes?: Route[];
  tokens?: Record<string, Principal>;
};

export class Fixture implements AsyncDisposable {
  readonly gateway: Gateway;
  readonly records: LogRecord[] = [];
  readonly live: LiveStreams;
  /** What the handlers of the control plane were given. */
  readonly exchanges: {
    exchange: Exchange;
    principal: Principal;
    by: keyof Handlers;
    body: string;
  }[] = [];
  readonly tokens: Record<string, Principal>;
  httpPort = 0;
  httpsPort = 0;
  #waiting: (() => void)[] = [];

  constructor({ settings, proxies = [], routes = [], tokens = {}, ...options }: Overrides) {
    const clock = options.clock ?? systemClock;
    this.live = options.live ?? new LiveStreams(clock);
    this.tokens = tokens;
    const log: Log = {
      enabled: (_component, level) => level !== 'debug',
      write: (record) => {
        this.records.push(record);
        for (const wake of this.#waiting.splice(0)) wake();
      },
    };
    this.gateway = createGateway({
      clock,
      log,
      live: this.live,
      authenticate: (credential) => this.tokens[credential],
      selectCertificate,
      handlers: {
        control: this.#handler('control'),
        mcp: this.#handler('mcp'),
        oauth: this.#handler('oauth'),
        sites: this.#handler('sites'),
      },
      ...options,
      settings: settingsWith(settings),
    });
    this.gateway.load(proxies, routes);
  }

  #handler(by: keyof Handlers) {
    return async (exchange: Exchange, principal: Principal) => {
      const chunks: Buffer[] = [];
      for await (const chunk of exchange.body) chunks.push(chunk as Buffer);
      this.exchanges.push({ exchange, principal, by, body: Buffer.concat(chunks).toString() });
      exchange.reply.writeHead(200, { 'content-type': 'text/plain' });
      exchange.reply.end(`${by} ${principal.id}`);
    };
  }

  async listen(): Promise<this> {
    const { http, https } = await this.gateway.listen();
    this.httpPort = http.port;
    this.httpsPort = https.port;
    return this;
  }

  /** The first access record that matches, as soon as it is there. */
  async record(matches: (record: LogRecord) => boolean): Promise<LogRecord> {
    for (;;) {
      const found = this.records.find((record) => record.kind === 'access' && matches(record));
      if (found) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.live[Symbol.dispose]();
    await this.gateway[Symbol.asyncDispose]();
  }
}

export const startGateway = async (overrides: Overrides = {}): Promise<Fixture> =>
  new Fixture(overrides).listen();

export class Upstream implements AsyncDisposable {
  readonly server: Server;
  readonly requests: IncomingMessage[] = [];
  connections = 0;

  constructor(listener: RequestListener) {
    this.server = createServer((request, response) => {
      this.requests.push(request);
      listener(request, response);
    });
    this.server.on('connection', () => this.connections++);
    this.server.keepAliveTimeout = 60_000;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

export async function startUpstream(listener: RequestListener): Promise<Upstream> {
  const upstream = new Upstream(listener);
  upstream.server.listen(0, '127.0.0.1');
  await once(upstream.server, 'listening');
  return upstream;
}

/** Answers with what it was asked, as JSON. */
export const echo: RequestListener = (request, response) => {
  const chunks: Buffer[] = [];
  request.on('error', () => {});
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({
        method: request.method,
        url: request.url,
        headers: request.headers,
        rawHeaders: request.rawHeaders,
        trailers: request.trailers,
        body: Buffer.concat(chunks).toString(),
      }),
    );
  });
};

export interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  rawHeaders: string[];
  trailers: NodeJS.Dict<string>;
  body: string;
  json: any;
}

export interface Ask {
  host?: string;
  method?: string;
  path?: string;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
}

export async function read(message: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks).toString();
  return {
    status: message.statusCode ?? 0,
    headers: message.headers,
    rawHeaders: message.rawHeaders,
    trailers: message.trailers,
    body,
    json: body.startsWith('{') ? JSON.parse(body) : undefined,
  };
}

/** Over HTTP/1.1 with TLS, a fresh connection each. */
export async function ask(
  fixture: Fixture,
  { host = 'app.example.com', ...rest }: Ask = {},
): Promise<Answer> {
  const request = httpsRequest({
    host: '127.0.0.1',
    port: fixture.httpsPort,
    servername: /^[\d.]+(?::\d+)?$/.test(host) ? '' : host.replace(/:\d+$/, ''),
    ca: caPem,
    agent: false,
    method: rest.method ?? 'GET',
    path: rest.path ?? '/',
    headers: { host, ...rest.headers },
    checkServerIdentity: () => undefined,
  });
  request.on('error', () => {});
  request.end(rest.body);
  const [message] = (await once(request, 'response')) as [IncomingMessage];
  return read(message);
}

/** Sends text as it is and gives what comes back until the other side closes (or `until` is seen). */
export async function raw(port: number, text: string | Buffer, until?: RegExp): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(text);
  return readUntil(socket, until);
}

/** Far more turns of the event loop than bytes need from one end of this machine to the other. */
const SETTLED_TURNS = 3000;

/** The value, once it has stopped changing: everyone who could change it is waiting. */
export async function settled(value: () => number): Promise<number> {
  let last = value();
  for (let turns = 0; turns < SETTLED_TURNS; turns++) {
    await new Promise(setImmediate);
    if (value() !== last) turns = 0;
    last = value();
  }
  return last;
}

export function readUntil(socket: Socket | TLSSocket, until?: RegExp): Promise<string> {
  let received = '';
  if (socket.destroyed) return Promise.resolve(received);
  return new Promise((resolve) => {
    socket.once('close', () => resolve(received));
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1');
      if (until?.test(received)) socket.destroy();
    });
  });
}

export async function tlsSocket(
  fixture: Fixture,
  servername: string,
  protocols = ['http/1.1'],
): Promise<TLSSocket> {
  const socket = connectTls({
    host: '127.0.0.1',
    port: fixture.httpsPort,
    servername,
    ca: caPem,
    ALPNProtocols: protocols,
    checkServerIdentity: () => undefined,
  });
  await once(socket, 'secureConnect');
  return socket;
}

export async function http2Session(
  fixture: Fixture,
  servername = 'app.example.com',
): Promise<ClientHttp2Session> {
  const session = connectHttp2(`https://${servername}:${fixture.httpsPort}`, {
    ca: caPem,
    host: '127.0.0.1',
    servername,
    lookup: (_hostname: string, _options: unknown, done: any) =>
      done(null, [{ address: '127.0.0.1', family: 4 }]),
    checkServerIdentity: () => undefined,
  } as never);
  session.on('error', () => {});
  await once(session, 'remoteSettings');
  return session;
}

export async function ask2(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string,
): Promise<{ status: number; headers: IncomingHttpHeaders; body: string; trailers: IncomingHttpHeaders }> {
  const stream = session.request(
    { ':path': '/', ':authority': 'app.example.com', ...headers },
    { endStream: body === undefined },
  );
  if (body !== undefined) stream.end(body);
  let trailers: IncomingHttpHeaders = {};
  stream.on('trailers', (fields) => (trailers = fields));
  stream.on('error', () => {});
  const [answered] = (await once(stream, 'response')) as [IncomingHttpHeaders];
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return {
    status: Number(answered[':status']),
    headers: answered,
    body: Buffer.concat(chunks).toString(),
    trailers,
  };
}
