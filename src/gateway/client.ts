/**
 * The seam to the HTTP engine: what the steps use of a request, a response and a connection. Node's HTTP/1.1 and
 * HTTP/2 objects satisfy it by shape; an engine of our own replaces this file and `listen.ts`, not the steps.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Peer } from './client-address.ts';
import type { Transit } from './transit.ts';

export type ClientRequest = IncomingMessage | Http2ServerRequest;
export type ClientResponse = ServerResponse | Http2ServerResponse;

/** What stays the same for all requests of one connection. */
export interface Connection {
  readonly peer: Peer;
  readonly isEncrypted: boolean;
  /** Canonical server name of the TLS handshake; undefined when the client sent none, or one that is no hostname. */
  readonly servername: string | undefined;
  /** The request being answered on an HTTP/1.1 connection. */
  current: Transit | undefined;
}

const HTTP_2 = 2;

export const isHttp2Request = (request: ClientRequest): request is Http2ServerRequest =>
  request.httpVersionMajor === HTTP_2;

export const isHttp2Response = (response: ClientResponse): response is Http2ServerResponse =>
  'stream' in response;

/** Whether a body follows the head, by framing alone (RFC 9112 §6.3, RFC 9113 §8.1). */
export function hasBody(request: ClientRequest): boolean {
  if (isHttp2Request(request)) return !request.stream.endAfterHeaders;
  const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && length !== '0');
}

/** Ends what the client gets without pretending that it was whole. */
export function cutClient(response: ClientResponse, http2Code: number): void {
  if (isHttp2Response(response)) {
    if (!response.stream.closed) response.stream.close(http2Code);
  } else if (response.socket) response.socket.destroy();
  else response.destroy();
}
