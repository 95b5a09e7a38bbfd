/**
 * One HTTPS exchange with a CA. The operator chooses the CA, so private networks are allowed; but every further URL is
 * the CA's word. So: HTTPS only, no redirects, no link-local addresses (there the metadata services of clouds are),
 * by name or by number, and bounds on time and size. Nothing is sent twice: after a lost reply only the caller knows
 * what may be repeated.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.1 | RFC 8555 §6.1}, §10.4 on requests to chosen addresses
 */
import { createSecureContext, getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, request } from 'undici';
import { type Clock, SECOND } from '../../core/clock.ts';
import { AddressRefused, lookupDialable, urlFault } from '../../core/dial.ts';
import { messageOf } from '../../core/errors.ts';
import { cleanText } from '../../core/untrusted.ts';
import { AcmeFault } from './fault.ts';
import { parseRetryAfter } from './retry-after.ts';
import { parseLinks, type Link } from './links.ts';

/** From the first byte sent to the last received. Some CAs sign while the request waits. */
export const REQUEST_MS = 60 * SECOND;
/** An order of a hundred names, or a chain of ten certificates, has a tenth of it. */
export const MAX_REPLY_BYTES = 512 * 1024;
const MAX_URL = 2_048;
const CONNECTIONS = 8;
const USER_AGENT = 'oauth-https-proxy';
const TLS_FAULT =
  /^(?:ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_|EPROTO$|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_(?:CA|PURPOSE)|PATH_LENGTH_)/;

export interface TransportOptions {
  clock: Clock;
  /** PEM of authorities that are trusted besides those of the system; undefined: none. */
  extraTrustPem: string | undefined;
}

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'POST';
  url: string;
  accept: string;
  /** A JWS as JSON. */
  body?: string;
  signal: AbortSignal;
}

export interface Reply {
  url: string;
  status: number;
  /** In lower case, without parameters; empty when there is none. */
  contentType: string;
  text: string;
  nonce: string | undefined;
  /** Absolute. */
  location: string | undefined;
  links: readonly Link[];
  retryAfterMs: number | undefined;
}

export interface Transport {
  /** @throws AcmeFault; what the signal was aborted with, when it was */
  send(request: HttpRequest): Promise<Reply>;
  close(): Promise<void>;
}

export function openTransport({ clock, extraTrustPem }: TransportOptions): Transport {
  const ca = getCACertificates('default').concat(extraTrustPem ?? []);
  const agent = new Agent({
    connections: CONNECTIONS,
    // Made once: hundreds of authorities are to be read.
    connect: { lookup: lookupDialable, timeout: REQUEST_MS, secureContext: createSecureContext({ ca }) },
  });
  return {
    send: (wanted) => send(agent, clock, wanted),
    close: () => agent.destroy(),
  };
}

async function send(agent: Agent, clock: Clock, wanted: HttpRequest): Promise<Reply> {
  wanted.signal.throwIfAborted();
  const url = requireFetchable(wanted.url);
  const late = new AbortController();
  const timer = clock.after(REQUEST_MS, () => late.abort());
  try {
    return await exchange(agent, clock, {
      ...wanted,
      url: url.href,
      signal: AbortSignal.any([wanted.signal, late.signal]),
    });
  } catch (cause) {
    wanted.signal.throwIfAborted();
    throw late.signal.aborted ? tooSlow(url) : asFault(url, cause);
  } finally {
    timer.cancel();
  }
}

async function exchange(agent: Agent, clock: Clock, wanted: HttpRequest): Promise<Reply> {
  const { method, url, accept, body, signal } = wanted;
  const {
    statusCode,
    headers,
    body: content,
  } = await request(url, {
    method,
    dispatcher: agent,
    signal,
    headers: {
      'user-agent': USER_AGENT,
      accept,
      'accept-language': 'en',
      ...(body !== undefined && { 'content-type': 'application/jose+json' }),
    },
    ...(body !== undefined && { body }),
  });
  const text = await readText(url, content);
  const header = (name: string) => textOf(headers[name]);
  const location = header('location');
  if (statusCode >= 300 && statusCode < 400)
    throw new AcmeFault(
      'redirected',
      `${url} redirects to ${cleanText(location ?? 'nowhere')}; an ACME server must not`,
    );
  return {
    url,
    status: statusCode,
    contentType: (header('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '',
    text,
    nonce: header('replay-nonce'),
    location: location && URL.canParse(location, url) ? new URL(location, url).href : undefined,
    links: parseLinks(header('link'), url),
    retryAfterMs: parseRetryAfter(header('retry-after'), clock.now()),
  };
}

const textOf = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value.join(', ') : value;

async function readText(url: string, body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  // A body is bytes unless an encoding was set on it, and none was.
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_REPLY_BYTES)
      throw new AcmeFault('too_large', `${url} answered with more than ${MAX_REPLY_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

const tooSlow = ({ href }: URL): AcmeFault =>
  new AcmeFault('timeout', `${href} gave no whole reply in ${REQUEST_MS / SECOND} s`);

function asFault({ href }: URL, cause: unknown): AcmeFault {
  if (cause instanceof AcmeFault) return cause;
  if (cause instanceof AddressRefused) return new AcmeFault('unsafe_url', cause.message, { cause });
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const why = cleanText(messageOf(cause));
  return TLS_FAULT.test(code)
    ? new AcmeFault(
        'tls',
        `TLS with ${href} failed: ${why}; a private CA has to be trusted by OHP_ACME_CA_FILE`,
        {
          cause,
        },
      )
    : new AcmeFault('unreachable', `${href} could not be reached, or hung up: ${why}`, { cause });
}

/** @throws AcmeFault unsafe_url */
export function requireFetchable(text: string): URL {
  const url = text.length <= MAX_URL && URL.canParse(text) ? new URL(text) : undefined;
  const shown = cleanText(text);
  if (!url) throw new AcmeFault('unsafe_url', `${shown} is not a URL of at most ${MAX_URL} characters`);
  if (url.protocol !== 'https:') throw new AcmeFault('unsafe_url', `${shown} is not https (RFC 8555 §6.1)`);
  const fault = urlFault(url);
  if (fault !== undefined) throw new AcmeFault('unsafe_url', fault);
  return url;
}
