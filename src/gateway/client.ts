/**
 * The seam to the HTTP engine: what the steps use of a request, a response and a connection. Node's HTTP/1.1 and
 * HTTP/2 objects satisfy it by shape; an engine of our own replaces this file and `listen.ts`, not the steps.
 */
import type { IncomingMessage } from 'node:http';
import { constants, type Http2ServerRequest, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { AddressUse } from './address-use.ts';
import type { Peer } from './client-address.ts';
import type { ShownCertificate } from './client-auth.ts';
import type { Guard } from './guarded-ports.ts';
import type { FieldRecord } from './headers.ts';
import type { Transit, UpgradeRequest } from './transit.ts';

export type ClientRequest = IncomingMessage | Http2ServerRequest;

type HeaderList = readonly string[];
type HeaderRecord = Readonly<Record<string, string | number | readonly string[]>>;

/** What `http.ServerResponse` and `http2.Http2ServerResponse` have in common. */
export interface ClientResponse {
  readonly headersSent: boolean;
  readonly statusCode: number;
  readonly writableEnded: boolean;
  readonly writableFinished: boolean;
  readonly writableNeedDrain: boolean;
  readonly writableLength: number;
  /** The reason phrase; HTTP/2 has none, and warns of it. */
  statusMessage: string;
  setHeader(name: string, value: string | readonly string[]): unknown;
  getHeaderNames(): string[];
  /** Those that were set, not those that `writeHead` is given. */
  getHeaders(): Readonly<Record<string, string | number | string[] | undefined>>;
  removeHeader(name: string): void;
  writeHead(status: number, headers?: HeaderList | HeaderRecord): unknown;
  writeHead(status: number, reasonPhrase: string, headers: HeaderList): unknown;
  writeContinue(): void;
  /** Not in every Node 24: there interim responses end here. */
  writeInformation?(status: number, headers: HeaderList | FieldRecord): unknown;
  flushHeaders(): void;
  write(chunk: string | Uint8Array): boolean;
  addTrailers(trailers: Readonly<Record<string, string>>): void;
  end(chunk?: string | Uint8Array): unknown;
  on(event: 'drain', listener: () => void): unknown;
  once(event: 'close' | 'drain', listener: () => void): unknown;
  destroy(error?: Error): unknown;
}

interface Http1Response extends ClientResponse {
  readonly socket: Socket | null;
  detachSocket(socket: Socket): void;
}

interface Http2Response extends ClientResponse {
  readonly stream: ServerHttp2Stream;
}

/** A request as the engine gives it. */
export interface ArrivedRequest {
  readonly request: ClientRequest;
  readonly response: ClientResponse;
  readonly upgrade?: UpgradeRequest | undefined;
  readonly expectsContinue?: boolean | undefined;
}

/** What stays the same for all requests of one connection. */
export interface Connection {
  readonly peer: Peer;
  readonly address: AddressUse;
  readonly isEncrypted: boolean;
  /** Canonical server name of the TLS handshake; undefined when the client sent none, or one that is no hostname. */
  readonly servername: string | undefined;
  /** What its client showed of itself; undefined where no certificate was asked for. */
  readonly shown: ShownCertificate | undefined;
  /** Where it came by a guarded port: what all its requests are for. */
  readonly guard: Guard | undefined;
  /** Requests that are being answered. */
  pending: number;
  /** What follows on the connection is not to be trusted as a request: it ends with the reply that is under way. */
  isLast: boolean;
  /** Requests over HTTP/1.1 that came behind one that is not answered yet. */
  readonly waiting: ArrivedRequest[];
  /** The one that came last on an HTTP/1.1 connection, while it is being answered. */
  current: Transit | undefined;
}

/** Statuses whose replies end with their head, and have no trailers either. @see RFC 9110 §6.4.1 */
const bodiless: ReadonlySet<number> = new Set([204, 205, 304]);

/** By the object and not by the version that is in it: over HTTP/1 the client writes that, and may write 2.0. */
export const isHttp2Request = (request: ClientRequest): request is Http2ServerRequest => 'stream' in request;

export const isHttp2Response = (response: ClientResponse): response is Http2Response => 'stream' in response;

const isHttp1Response = (response: ClientResponse): response is Http1Response =>
  !isHttp2Response(response) && 'socket' in response;

/** It ends when what is under way on it is answered. */
export function endConnection({ connection, request }: Pick<Transit, 'connection' | 'request'>): void {
  connection.isLast = true;
  if (isHttp2Request(request)) request.stream.session?.close();
}

/** The connection is no longer HTTP's. */
export function leaveHttp(response: ClientResponse): void {
  if (isHttp1Response(response) && response.socket) response.detachSocket(response.socket);
}

/** Whether a body follows the head, by framing alone (RFC 9112 §6.3, RFC 9113 §8.1). */
export function hasBody(request: ClientRequest): boolean {
  if (isHttp2Request(request)) return !request.stream.endAfterHeaders;
  const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && length !== '0');
}

/**
 * For a reply that is whole while the client is still sending. Over HTTP/2 the client is asked to stop. Over HTTP/1.1, closing with bytes unread would reset the connection, and the reply
 * with it: Node's server calls `destroySoon` after a last reply; here it only ends our side, and `Lingering` closes the
 * rest when its time is up.
 * @see {@link https://www.rfc-editor.org/rfc/rfc9113#section-8.1 | RFC 9113 §8.1}, RFC 9112 §9.6
 */
export function closeGently(response: ClientResponse): void {
  if (isHttp2Response(response)) {
    askToStop(response.stream);
    return;
  }
  if (!isHttp1Response(response) || !response.socket) return;
  const { socket } = response;
  socket.destroySoon = () => void socket.end();
}

/**
 * Behind the end of the reply. The engine asks for trailers, also where there are none, when it has sent the last of a
 * body; a stream that is closed before that gets none.
 */
function askToStop(stream: ServerHttp2Stream): void {
  const stop = () => stream.close(constants.NGHTTP2_NO_ERROR);
  if (bodiless.has(Number(stream.sentHeaders?.[':status']))) stop();
  else stream.once('wantTrailers', () => setImmediate(stop));
}

/**
 * Takes back what was set for a reply that is not sent after all. A date can't be taken back over HTTP/2, so that it is
 * replaced.
 */
export function forgetHead(response: ClientResponse, isKept: (name: string) => boolean, now: Date): void {
  for (const name of response.getHeaderNames())
    if (name === 'date') response.setHeader(name, now.toUTCString());
    else if (!isKept(name)) response.removeHeader(name);
  if (!isHttp2Response(response)) response.statusMessage = '';
}

/** Ends what the client gets without pretending that it was whole. */
export function cutClient(response: ClientResponse, http2Code: number): void {
  if (isHttp2Response(response)) {
    if (!response.stream.closed) response.stream.close(http2Code);
  } else if (isHttp1Response(response) && response.socket) response.socket.destroy();
  else response.destroy();
}
