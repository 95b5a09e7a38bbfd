/**
 * TLS client certificates: hosts that ask for one have a TLS server of their own in front of the HTTP engine, so that
 * nobody else is asked. It asks, checks by the CAs of the host, and remembers with the connection what came of it; the
 * step `check-client-certificate` decides by that for each request. Nothing resumes on it: a resumed session would
 * carry over who was checked by other CAs and lists, or never (Node calls one without a certificate authorised).
 */
import { hash, type X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContext, type Server, type TLSSocket } from 'node:tls';
import { messageOf } from '../core/errors.ts';
import { parseHostname } from '../core/hostname.ts';
import { PROTOCOLS, withoutResumption } from '../core/tls-policy.ts';
import { cleanText } from '../core/untrusted.ts';
import type { Proxy } from '../proxies/schema.ts';
import type { Place } from './tls-door.ts';
import {
  answer,
  INTERNAL_ERROR,
  parentOf,
  type Refused,
  type SniCallback,
  type TlsParts,
  tlsRecord,
  UNRECOGNIZED_NAME,
} from './tls.ts';

type ClientAuth = Proxy['client_auth'];
export type ClientTrust = Exclude<ClientAuth, { mode: 'off' }>;

/** What one connection showed. */
export interface ShownCertificate {
  /** By which CAs and lists it was checked (`trustKey`). */
  readonly trust: string;
  /** Undefined: none, or one that is refused. */
  readonly certificate: VerifiedCertificate | undefined;
  /** Why it is refused. */
  readonly fault: string | undefined;
}

export interface VerifiedCertificate {
  readonly subject: string;
  readonly names: string;
  /** SHA-256 in lower-case hexadecimal digits. */
  readonly fingerprint: string;
  readonly raw: Buffer;
  /** Milliseconds since 1970. */
  readonly notAfter: number;
}

/** It becomes a header field in base64, which is a third longer. */
const MAX_CERTIFICATE_BYTES = 16_384;

const keys = new WeakMap<ClientTrust, string>();

/** The same for the same CAs and lists, whatever else changes of a proxy. */
export function trustKey(trust: ClientTrust): string {
  let key = keys.get(trust);
  if (key === undefined) {
    key = hash('sha256', JSON.stringify([trust.ca_pem, trust.crl_pem ?? '']));
    keys.set(trust, key);
  }
  return key;
}

/** What client certificates of a hostname are checked by; undefined where none is asked for. */
export type TrustFor = (hostname: string) => ClientTrust | undefined;

export interface ClientAuthParts extends TlsParts {
  readonly trustFor: TrustFor;
  /** Whether any host asks. */
  readonly isAsked: () => boolean;
  readonly handshakeTimeoutMs: number;
}

export class ClientAuthServer {
  readonly place: Place;
  readonly server: Server;
  readonly #parts: ClientAuthParts;
  /** By the connection under TLS: what the handshake was told to check by, and then what it found. */
  readonly #checking = new WeakMap<Socket, string>();
  readonly #shown = new WeakMap<Socket, ShownCertificate>();

  /** `accept` gets connections after their handshake. */
  constructor(parts: ClientAuthParts, accept: (socket: TLSSocket) => void) {
    this.#parts = parts;
    this.server = createServer(
      {
        ...withoutResumption,
        ALPNProtocols: [...PROTOCOLS],
        handshakeTimeout: parts.handshakeTimeoutMs,
        requestCert: true,
        // Refused by a reply that says why, rather than by a connection that breaks.
        rejectUnauthorized: false,
        SNICallback: this.#sniCallback(),
      },
      (socket) => {
        this.#keep(socket);
        accept(socket);
      },
    );
    const { trustFor, isAsked } = parts;
    this.place = {
      server: this.server,
      isAsked,
      isMeant({ servername }) {
        const hostname = servername === undefined ? undefined : parseHostname(servername);
        return hostname !== undefined && trustFor(hostname) !== undefined;
      },
    };
  }

  /** What the client of this connection showed; undefined where it was not asked. */
  shownOn(tlsSocket: unknown): ShownCertificate | undefined {
    const socket = parentOf(tlsSocket);
    return socket && this.#shown.get(socket);
  }

  #sniCallback(): SniCallback {
    const find = (servername: string, tlsSocket: unknown) => this.#contextFor(servername, tlsSocket);
    return function (servername, done) {
      void answer(find(servername, this), this, done);
    };
  }

  /** Never rejects. */
  async #contextFor(servername: string, tlsSocket: unknown): Promise<SecureContext | Refused> {
    const hostname = parseHostname(servername);
    const socket = parentOf(tlsSocket);
    try {
      const trust = hostname === undefined ? undefined : this.#parts.trustFor(hostname);
      const context = trust && (await this.#parts.selectCertificate(hostname, trust));
      if (!context || !socket)
        return { alert: UNRECOGNIZED_NAME, reason: 'this server name asks for no client certificate' };
      this.#checking.set(socket, trustKey(trust));
      return context;
    } catch (cause) {
      tlsRecord(this.#parts, 'error', `${hostname} is closed: ${messageOf(cause)}`, hostname);
      return { alert: INTERNAL_ERROR, reason: 'client certificates of this server name can not be checked' };
    }
  }

  #keep(socket: TLSSocket): void {
    const connection = parentOf(socket);
    const trust = connection && this.#checking.get(connection);
    if (!connection || trust === undefined || socket.isSessionReused()) return;
    const shown = { trust, ...readShown(socket) };
    this.#shown.set(connection, shown);
    if (shown.fault !== undefined) this.#tell(socket, shown.fault);
  }

  #tell({ servername }: TLSSocket, fault: string): void {
    const hostname = typeof servername === 'string' ? parseHostname(servername) : undefined;
    tlsRecord(this.#parts, 'info', `client certificate refused: ${fault}`, hostname);
  }
}

function readShown(socket: TLSSocket): Pick<ShownCertificate, 'certificate' | 'fault'> {
  const nothing = { certificate: undefined, fault: undefined };
  const found = socket.getPeerX509Certificate();
  if (!found) return nothing;
  const code = codeOf(socket.authorizationError);
  // Both are asked: either alone would be enough to let somebody in by a mistake of it.
  if (!socket.authorized || code !== undefined) return { ...nothing, fault: explain(code, found) };
  if (found.raw.length > MAX_CERTIFICATE_BYTES)
    return { ...nothing, fault: `it is larger than ${MAX_CERTIFICATE_BYTES} bytes` };
  return { ...nothing, certificate: verified(found) };
}

const verified = ({ subject, subjectAltName, raw, validToDate }: X509Certificate): VerifiedCertificate => ({
  subject: cleanText(subject.split('\n').join(', ')),
  names: cleanText(subjectAltName ?? ''),
  fingerprint: hash('sha256', raw),
  raw,
  notAfter: validToDate.getTime(),
});

/** Node's types say Error; what is there is the code. */
function codeOf(error: unknown): string | undefined {
  if (error === undefined || error === null) return undefined;
  return typeof error === 'string' ? error : messageOf(error);
}

/** @see {@link https://docs.openssl.org/3.5/man3/X509_STORE_CTX_get_error/ | X509_STORE_CTX_get_error} */
const reasons: Readonly<Record<string, string>> = {
  CERT_REVOKED: 'its CA has revoked it',
  CERT_NOT_YET_VALID: 'it is not valid yet',
  INVALID_PURPOSE: 'it is not for TLS clients: its extended key usage lacks clientAuth',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is of no CA that is trusted here, but signed by itself',
  SELF_SIGNED_CERT_IN_CHAIN: 'it is of no CA that is trusted here',
  UNABLE_TO_GET_ISSUER_CERT: 'it is of no CA that is trusted here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'it is of no CA that is trusted here, or an intermediate is missing',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'it is of no CA that is trusted here, or an intermediate is missing',
  CERT_SIGNATURE_FAILURE: 'its signature is wrong',
  CRL_HAS_EXPIRED:
    'the revocation list of its CA is over, so that nobody of that CA gets in; the owner of this hostname has to bring a new one',
  CRL_NOT_YET_VALID: 'the revocation list of its CA does not count yet',
  CRL_SIGNATURE_FAILURE: 'the signature of the revocation list is wrong',
  UNABLE_TO_GET_CRL: 'there is no revocation list of one of the CAs above it',
  // What Node has no name for.
  UNSPECIFIED:
    'it could not be verified, mostly because it or a CA above it is signed with SHA-1 or MD5, or has a key that is too short',
  PATH_LENGTH_EXCEEDED: 'there are more CAs above it than they allow',
};

function explain(code: string | undefined, found: X509Certificate): string {
  if (code === undefined) return 'it could not be checked';
  if (code === 'CERT_HAS_EXPIRED')
    return found.validToDate.getTime() <= Date.now()
      ? `it expired at ${found.validToDate.toISOString()}`
      : 'a CA above it has expired';
  return `${reasons[code] ?? 'it could not be verified'} (${code})`;
}
