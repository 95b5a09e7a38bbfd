/**
 * Talks to one CA: knows its directory, keeps nonces, signs. These two are all that it remembers, and a restart misses
 * neither. Every step of the protocol is a function of its own on top of it.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6 | RFC 8555 §6}
 */
import type { KeyObject } from 'node:crypto';
import { type Clock, HOUR } from '../../core/clock.ts';
import { type Directory, readDirectory } from './directory.ts';
import { AcmeFault } from './fault.ts';
import { type JwsSigner, signJws } from './jws.ts';
import { createNonces } from './nonces.ts';
import { AcmeProblem, type Scope } from './problem.ts';
import { requireSuccess } from './reply.ts';
import { type HttpRequest, openTransport, type Reply } from './transport.ts';

/** Renewals are hours apart at least, so that each sees what the CA says of itself by then. */
export const DIRECTORY_AGE_MS = HOUR;
/** A CA that refuses every tenth nonce, and even every fifth, is got past. */
export const MAX_NONCE_TRIES = 10;
const JSON_TYPE = 'application/json';

/** What has to be stored of an account, besides its key. Keys are for one CA each. */
export interface AccountRef {
  url: string;
  /** Private, P-256. */
  key: KeyObject;
}

export interface Call {
  /** Ends the call; what was sent by then may have taken effect. */
  signal: AbortSignal;
}

export interface SignedRequest {
  url: string;
  signer: JwsSigner;
  /** Undefined: POST-as-GET. */
  payload?: unknown;
  accept?: string;
  /** `order` when absent. */
  scope?: Scope;
}

export interface SessionOptions {
  directoryUrl: string;
  clock: Clock;
  /** PEM of authorities that are trusted besides those of the system. */
  extraTrustPem?: string | undefined;
}

export interface Session {
  readonly clock: Clock;
  directory(call: Call): Promise<Directory>;
  /** Without a signature: the directory, renewal information. */
  get(url: string, call: Call): Promise<Reply>;
  /** @throws AcmeProblem, AcmeFault; what the signal was aborted with */
  post(request: SignedRequest, call: Call): Promise<Reply>;
  close(): Promise<void>;
}

export const signerOf = ({ url, key }: AccountRef): JwsSigner => ({ key, kid: url });

export function openSession({ directoryUrl, clock, extraTrustPem }: SessionOptions): Session {
  const transport = openTransport({ clock, extraTrustPem });
  const nonces = createNonces();
  let known: { directory: Directory; at: number } | undefined;

  const send = async (request: HttpRequest): Promise<Reply> => {
    const reply = await transport.send(request);
    nonces.add(reply.nonce);
    return reply;
  };

  const session: Session = {
    clock,
    async directory(call) {
      const now = clock.now();
      if (known && now - known.at < DIRECTORY_AGE_MS) return known.directory;
      const directory = readDirectory(await session.get(directoryUrl, call));
      known = { directory, at: now };
      return directory;
    },
    get: (url, { signal }) => send({ method: 'GET', url, accept: JSON_TYPE, signal }),
    async post(request, call) {
      for (let attempt = 1; ; attempt++) {
        const nonce = nonces.take() ?? (await newNonce(call));
        const reply = await sendSigned(request, nonce, call);
        const problem = problemOf(reply, request.scope);
        if (!problem) return reply;
        if (problem.type !== 'badNonce' || attempt === MAX_NONCE_TRIES) throw problem;
      }
    },
    close: () => transport.close(),
  };

  /** @see RFC 8555 §7.2 */
  async function newNonce(call: Call): Promise<string> {
    const { newNonce: url } = await session.directory(call);
    await send({ method: 'HEAD', url, accept: JSON_TYPE, signal: call.signal });
    const nonce = nonces.take();
    if (nonce === undefined) throw new AcmeFault('malformed_reply', `${url} answered without Replay-Nonce`);
    return nonce;
  }

  async function sendSigned(request: SignedRequest, nonce: string, { signal }: Call): Promise<Reply> {
    const { url, signer, payload, accept = JSON_TYPE } = request;
    const body = JSON.stringify(await signJws(signer, { url, nonce, payload }));
    return send({ method: 'POST', url, accept, body, signal });
  }

  return session;
}

/** The nonce that came with `badNonce` is the newest by now, and the next that is taken. */
function problemOf(reply: Reply, scope?: Scope): AcmeProblem | undefined {
  try {
    requireSuccess(reply, scope);
    return undefined;
  } catch (cause) {
    if (cause instanceof AcmeProblem) return cause;
    throw cause;
  }
}
