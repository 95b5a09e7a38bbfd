/**
 * Stands between the suite, which sends no credential and speaks plain HTTP/1.1, and an endpoint that wants a bearer
 * token: adds it, and speaks the target's protocol. Nothing else is changed; streams pass as they come.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect, type ClientHttp2Session, constants, type IncomingHttpHeaders } from 'node:http2';
import { request as requestTls } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface Target {
  /** With https: it is connected to the port of the URL on this machine, whatever its name. */
  url: string;
  token: string;
  /** PEM of the authority that a target with TLS is checked against. */
  ca?: string | undefined;
  /** To a target with TLS. */
  protocol?: 'HTTP/1.1' | 'HTTP/2' | undefined;
  /** Sent as Host where the suite means the server's own name; absent: the suite's own Host goes through. */
  host?: string | undefined;
}

export interface Forwarder extends AsyncDisposable {
  readonly url: string;
}

type Headers = IncomingMessage['headers'];
type Send = (incoming: IncomingMessage, outgoing: ServerResponse, headers: Headers) => void;

/** Host and Origin pass through unchanged: the suite tests how they are checked. */
export async function startForwarder(target: Target): Promise<Forwarder> {
  const { token, host, protocol } = target;
  const url = new URL(target.url);
  const sender = protocol === 'HTTP/2' ? overHttp2(url, target) : overHttp1(url, target);
  const server = createServer((incoming, outgoing) => {
    const headers = { ...incoming.headers, authorization: `Bearer ${token}` };
    if (host !== undefined && /^localhost:\d+$/.test(headers.host ?? '')) headers.host = host;
    sender.send(incoming, outgoing, headers);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://localhost:${port}${url.pathname}`,
    async [Symbol.asyncDispose]() {
      sender.close();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Without TLS, or with HTTP/1.1 below it. */
function overHttp1(url: URL, { ca }: Target): { send: Send; close: () => void } {
  const isSecure = url.protocol === 'https:';
  const place = { host: isSecure ? '127.0.0.1' : url.hostname, port: url.port, path: url.pathname };
  return {
    send(incoming, outgoing, headers) {
      const options = { ...place, method: incoming.method, headers };
      const upstream = isSecure ? requestTls({ ...options, ca, servername: url.hostname }) : request(options);
      upstream.once('response', (reply) => {
        outgoing.writeHead(reply.statusCode ?? 500, reply.headers);
        outgoing.flushHeaders();
        reply.pipe(outgoing);
      });
      upstream.once('error', () => outgoing.destroy());
      outgoing.once('close', () => upstream.destroy());
      incoming.pipe(upstream);
    },
    close: () => {},
  };
}

/** All requests as streams of one connection. */
function overHttp2(url: URL, { ca }: Target): { send: Send; close: () => void } {
  let session: ClientHttp2Session | undefined;
  const open = (): ClientHttp2Session => {
    if (session && !session.closed && !session.destroyed) return session;
    session = connect(`https://127.0.0.1:${url.port}`, { ca, servername: url.hostname });
    // Each stream on it hears of it as well.
    session.on('error', () => {});
    return session;
  };
  return {
    send(incoming, outgoing, headers) {
      const stream = open().request({
        ...fieldsOf(headers),
        ':method': incoming.method,
        ':path': url.pathname,
        ':scheme': 'https',
        ':authority': headers.host,
      });
      stream.once('response', ({ ':status': status, ...fields }) => {
        outgoing.writeHead(Number(status), fields);
        outgoing.flushHeaders();
        stream.pipe(outgoing);
      });
      stream.once('error', () => outgoing.destroy());
      outgoing.once('close', () => stream.close(constants.NGHTTP2_CANCEL));
      incoming.pipe(stream);
    },
    close: () => session?.destroy(),
  };
}

/** @see {@link https://www.rfc-editor.org/rfc/rfc9113#section-8.2.2 | RFC 9113 §8.2.2} */
const OF_THE_CONNECTION = new Set(['host', 'connection', 'keep-alive', 'transfer-encoding', 'upgrade']);

const fieldsOf = (headers: Headers): IncomingHttpHeaders =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !OF_THE_CONNECTION.has(name)));
