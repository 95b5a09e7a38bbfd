/**
 * How a walk reaches what it asks: connections to the listeners of this process and to nothing else, with the host and
 * the TLS name of the URL, so that the whole pipeline answers. A URL of a host that is not served here is never asked,
 * whoever named it. Bounded in time, size and number; the same question is asked once.
 */
import http from 'node:http';
import https from 'node:https';
import { connect, rootCertificates, type TLSSocket } from 'node:tls';
import { type Clock, SECOND } from '../core/clock.ts';
import { reachedBy } from '../core/reached-by.ts';

/** The first questions of all load what answers them; a machine that has much else to do takes its time. */
const PATIENCE_MS = 10 * SECOND;
const MAX_BYTES = 64 * 1024;
const MAX_REQUESTS = 160;
const MAX_SOCKETS = 4;

export interface Listening {
  readonly address: string;
  readonly port: number;
}

export interface WireOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly listeners: () => { readonly http: Listening | undefined; readonly https: Listening | undefined };
  /** Whether this process answers for the hostname; of an IPv6 address without brackets. */
  readonly isOwn: (hostname: string) => boolean;
  /** PEM of the authority of this system. */
  readonly authority: () => string;
}

export interface Asked {
  readonly method?: 'GET' | 'POST' | 'OPTIONS' | 'DELETE';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Asked again each time: it changes something, or carries a credential. */
  readonly once?: true;
  /** Asked also when nobody waits for the diagnosis any more: what was made is taken away. */
  readonly outlasts?: true;
}

export interface Answered {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  /** What is in it as JSON, or in the first event of an event stream; undefined: nothing of the kind. */
  readonly json: unknown;
}

export interface Handshake {
  /** Trusted as every client trusts it. */
  readonly isPublic: boolean;
  /** Trusted by who trusts the authority of this system. */
  readonly isOwn: boolean;
  readonly fault: string | undefined;
}

/** The URL is of somebody else. */
export class NotServedHere extends Error {
  override readonly name = 'NotServedHere';
}

/** By which the requests of a walk are told from those of clients, in the log. Who borrows it hides only themselves. */
export const WALK_AGENT = 'ohp-diagnose-connector';

const bare = (hostname: string): string => hostname.replace(/^\[|\]$/g, '');

export class Wire implements Disposable {
  readonly #options: WireOptions;
  readonly #agents = {
    http: new http.Agent({ keepAlive: true, maxSockets: MAX_SOCKETS }),
    https: new https.Agent({ keepAlive: true, maxSockets: MAX_SOCKETS }),
  };
  readonly #asked = new Map<string, Promise<Answered>>();
  #requests = 0;

  constructor(options: WireOptions) {
    this.#options = options;
  }

  isOwn(url: URL): boolean {
    return /^https?:$/.test(url.protocol) && this.#options.isOwn(bare(url.hostname));
  }

  /** @throws NotServedHere; Error when there is no answer. */
  ask(target: string | URL, asked: Asked = {}): Promise<Answered> {
    const url = new URL(target);
    if (asked.once) return this.#send(url, asked);
    const key = JSON.stringify([url.href, asked]);
    const known = this.#asked.get(key) ?? this.#send(url, asked);
    this.#asked.set(key, known);
    return known;
  }

  async #send(url: URL, { method = 'GET', headers = {}, body, outlasts }: Asked): Promise<Answered> {
    if (!this.isOwn(url)) throw new NotServedHere(`${url.hostname} is not served by this process`);
    if (++this.#requests > MAX_REQUESTS) throw new Error('too many requests for one diagnosis');
    const scheme = url.protocol === 'https:' ? 'https' : 'http';
    const { promise, resolve, reject } = Promise.withResolvers<Answered>();
    const request = (scheme === 'https' ? https : http).request({
      ...this.#place(url, scheme),
      method,
      path: url.pathname + url.search,
      agent: this.#agents[scheme],
      ...(!outlasts && { signal: this.#options.signal }),
      headers: {
        host: url.host,
        'user-agent': WALK_AGENT,
        ...(body !== undefined && { 'content-length': String(Buffer.byteLength(body)) }),
        ...headers,
      },
    });
    const timer = this.#options.clock.after(PATIENCE_MS, () => {
      request.destroy(new Error(`no answer within ${PATIENCE_MS / SECOND} seconds`));
    });
    request.on('error', reject);
    request.on('response', (response) => void read(response).then(resolve, reject));
    request.end(body);
    try {
      return await promise;
    } finally {
      timer.cancel();
    }
  }

  /** What a client sees of the certificate. Whom it trusts is its own affair: both ways of trusting are tried. */
  async handshake(url: URL): Promise<Handshake> {
    if (!this.isOwn(url)) throw new NotServedHere(`${url.hostname} is not served by this process`);
    const isPublic = await this.#isTrusted(url, [...rootCertificates]);
    const fault =
      isPublic === undefined ? undefined : await this.#isTrusted(url, [this.#options.authority()]);
    return { isPublic: isPublic === undefined, isOwn: fault === undefined, fault };
  }

  /** Undefined: it is. */
  async #isTrusted(url: URL, ca: string[]): Promise<string | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
    const socket = connect({ ...this.#place(url, 'https'), ca, rejectUnauthorized: false });
    const timer = this.#options.clock.after(PATIENCE_MS, () => {
      socket.destroy(new Error('the TLS handshake did not end'));
    });
    socket.once('secureConnect', () => resolve(socket));
    socket.on('error', reject);
    try {
      const { authorized, authorizationError } = await promise;
      return authorized ? undefined : String(authorizationError);
    } finally {
      timer.cancel();
      socket.destroy();
    }
  }

  /** The listener of this process, whatever port the URL names: a front may have another one. */
  #place(url: URL, scheme: 'http' | 'https') {
    const at = this.#options.listeners()[scheme];
    if (!at) throw new Error(`this process does not listen for ${scheme}`);
    const host = reachedBy(at.address);
    const hostname = bare(url.hostname);
    const isName = !/^[\d.]+$|:/.test(hostname);
    // It is this process that answers, on this machine; the certificate is looked at by `handshake`.
    return { host, port: at.port, rejectUnauthorized: false, ...(isName && { servername: hostname }) };
  }

  [Symbol.dispose](): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }
}

/** An event stream need not end: its first event is the answer. */
async function read(response: http.IncomingMessage): Promise<Answered> {
  const { statusCode: status = 0, headers } = response;
  const isStream = /^text\/event-stream/i.test(headers['content-type'] ?? '');
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    text += chunk;
    if (text.length > MAX_BYTES || (isStream && eventIn(text) !== undefined)) break;
  }
  return { status, headers, text, json: parsed(isStream ? eventIn(text) : text) };
}

const eventIn = (text: string): string | undefined => /^data: ?(\S.*)\r?\n\r?\n/m.exec(text)?.[1];

function parsed(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    return undefined; // Not JSON: who asked says what that means.
  }
}
