/**
 * Sockets to requests, on Node's own HTTP engines: the two ports, the limits of connections, and every request (plain,
 * upgrade, CONNECT, malformed) into the pipeline. With `client.ts` this is all that knows the engine.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { AddressInfo, Server as NetServer, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Timer } from '../core/clock.ts';
import { parseHostname } from '../core/hostname.ts';
import { writeDebug } from '../core/record.ts';
import { type Member, NOWHERE, Roster } from '../core/roster.ts';
import { tlsPolicy } from '../core/tls-policy.ts';
import { cleanText } from '../core/untrusted.ts';
import { AddressUses } from './address-use.ts';
import {
  type ArrivedRequest,
  type ClientRequest,
  type ClientResponse,
  type Connection,
  isHttp2Request,
} from './client.ts';
import { ClientAuthServer, type ClientTrust } from './client-auth.ts';
import type { GatewayCore } from './core.ts';
import { checkMs, http2Options, serverOptions, shouldUpgradeCallback } from './engine-options.ts';
import { recordFault } from './fault-record.ts';
import type { Guard } from './guarded-ports.ts';
import { LateHeads } from './late-heads.ts';
import { type ClientFault, faultOf, rawReply } from './malformed.ts';
import { receive } from './pipeline.ts';
import { gatewayLimits } from './settings.ts';
import { keepDefaultContext, rawSocketOf, sniCallback, type TlsParts, tlsRecord } from './tls.ts';
import { challengePlace } from './tls-challenge.ts';
import { keepDoor } from './tls-door.ts';
import { newTraceId } from '../core/ids.ts';
import { Transit, type UpgradeRequest } from './transit.ts';

const NOTHING = Buffer.alloc(0);

export interface Addresses {
  readonly http: AddressInfo;
  readonly https: AddressInfo;
}

interface OpenSocket extends Member {
  readonly socket: Socket;
}

export class Listeners {
  readonly #core: GatewayCore;
  readonly #tls: TlsParts;
  readonly #http: Server;
  readonly #https: Http2SecureServer;
  readonly #clientAuth: ClientAuthServer;
  readonly #sockets = new Roster<OpenSocket>();
  /** Connections over HTTP/2, with the socket under each. */
  readonly #sessions = new Map<ServerHttp2Session, Socket | undefined>();
  readonly #ending = new WeakSet<ServerHttp2Session>();
  readonly #uses = new AddressUses();
  readonly #lateHeads: LateHeads;
  readonly #connections = new WeakMap<object, Connection>();
  readonly #guards = new WeakMap<object, Guard>();
  #timers: Timer[] = [];
  #refused = 0;

  constructor(core: GatewayCore, tls: TlsParts) {
    this.#core = core;
    this.#tls = tls;
    this.#lateHeads = new LateHeads(core.settings.headerTimeoutMs);
    const options = serverOptions(core);
    this.#http = createServer({ ...options, shouldUpgradeCallback });
    this.#https = createSecureServer({
      ...http2Options(core),
      http1Options: options,
      ...options,
      ...tlsPolicy,
      allowHTTP1: true,
      handshakeTimeout: core.settings.headerTimeoutMs,
      SNICallback: sniCallback(tls, (hostname) => trustFor(core, hostname) !== undefined),
    });
    // Node takes the option for plain servers only.
    Object.assign(this.#https, { shouldUpgradeCallback });
    this.#clientAuth = this.#keepDoor();
    for (const server of [this.#http, this.#https]) {
      Object.assign(server, { maxHeadersCount: core.settings.maxHeaders + 1 });
      this.#wire(server);
    }
    this.#https.on('session', (session) => this.#guard(session, () => this.#keepSession(session)));
    this.#https.on('secureConnection', (socket) => this.#tellHandshake(socket));
    for (const server of [this.#https, this.#clientAuth.server])
      server.on('tlsClientError', (error: Error, socket: TLSSocket) =>
        this.#guard(socket, () => this.#handshakeError(error, socket)),
      );
  }

  /** Challenges of CAs and hosts that ask for certificates have TLS servers of their own. */
  #keepDoor(): ClientAuthServer {
    const { settings, snapshots } = this.#core;
    const { tlsChallenges, clock } = this.#tls;
    const handshakeTimeoutMs = settings.headerTimeoutMs;
    const clientAuth = new ClientAuthServer(
      {
        ...this.#tls,
        handshakeTimeoutMs,
        isAsked: () => snapshots.asksForCertificates,
        trustFor: (hostname) => trustFor(this.#core, hostname),
      },
      // From here on it is a connection like any other; the engine looks for its own settings at the server.
      (socket) => this.#https.emit('secureConnection', Object.assign(socket, { server: this.#https })),
    );
    const challenges = tlsChallenges ? [challengePlace(tlsChallenges, handshakeTimeoutMs)] : [];
    keepDoor(this.#https, [...challenges, clientAuth.place], { clock, handshakeTimeoutMs });
    return clientAuth;
  }

  get open(): number {
    return this.#sockets.size;
  }

  get refused(): number {
    return this.#refused;
  }

  async listen(): Promise<Addresses> {
    const { bind, httpPort, httpsPort } = this.#core.settings;
    this.#timers = [
      await keepDefaultContext(this.#https, this.#tls),
      this.#core.clock.every(gatewayLimits.lingerMs, () => this.#cutEnded()),
      this.#core.clock.every(checkMs(this.#core), () =>
        this.#lateHeads.cut(this.#sessions.keys(), this.#core.clock.now(), (session) =>
          this.#isBusy(session),
        ),
      ),
    ];
    try {
      const http = await listening(this.#http, httpPort, bind);
      const https = await listening(this.#https, httpsPort, bind);
      return { http, https };
    } catch (cause) {
      this.stop();
      throw cause;
    }
  }

  /** A connection that came by a guarded port is one like any other from here on. */
  adopt(socket: Socket, guard: Guard): void {
    this.#guards.set(socket, guard);
    this.#http.emit('connection', socket);
  }

  /** No new connections; idle ones end, HTTP/2 ones after what is under way on them. */
  stop(): void {
    for (const timer of this.#timers) timer.cancel();
    for (const server of [this.#http, this.#https]) if (server.listening) server.close();
    for (const session of this.#sessions.keys()) session.close();
  }

  destroy(): void {
    for (const session of this.#sessions.keys()) session.destroy();
    for (const { socket } of this.#sockets) socket.destroy();
  }

  #wire(server: Server | Http2SecureServer): void {
    const plain: NetServer = server;
    plain.on('connection', (socket: Socket) => this.#guard(socket, () => this.#admit(socket)));
    for (const event of ['request', 'checkContinue', 'checkExpectation'])
      plain.on(event, (request: ClientRequest, response: ClientResponse) =>
        this.#guard(request.socket, () =>
          this.#receive({ request, response, expectsContinue: event === 'checkContinue' }),
        ),
      );
    plain.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) =>
      this.#guard(socket, () =>
        this.#receiveUpgrade(request, { socket, head, protocol: request.headers.upgrade ?? '' }),
      ),
    );
    plain.on('connect', (request: ClientRequest, second: Duplex | Http2ServerResponse, head?: Buffer) =>
      this.#guard(request.socket, () => {
        if (second instanceof Http2ServerResponse)
          this.#receiveConnect(request as Http2ServerRequest, second);
        else
          this.#receiveUpgrade(request as IncomingMessage, {
            socket: second,
            head: head ?? NOTHING,
            protocol: '',
          });
      }),
    );
    plain.on('error', (error) => this.#serverError(error));
    plain.on('clientError', (error: Error, socket: Socket) =>
      this.#guard(socket, () => this.#clientError(error, socket)),
    );
  }

  /** A fault of ours ends the connection that it came up on, never the process. */
  #guard(owner: { destroy(): unknown }, act: () => void): void {
    try {
      act();
    } catch (cause) {
      owner.destroy();
      recordFault(this.#core, 'a listener failed', cause);
    }
  }

  #tellHandshake(socket: TLSSocket): void {
    this.#core.meter.shookHands(socket.getProtocol() ?? 'unknown', socket.isSessionReused());
    writeDebug(this.#core, 'tls', () => {
      const { servername, alpnProtocol } = socket;
      const name = typeof servername === 'string' ? parseHostname(servername) : undefined;
      const cipher = socket.getCipher().name;
      return {
        message: `handshake: ${socket.getProtocol()}, ${cipher}, ${alpnProtocol || 'no ALPN'}, for ${name ?? 'no name'}`,
        hostname: name,
        client_address: this.#core.trusted.peer(socket.remoteAddress).address,
      };
    });
  }

  /** Of the listening socket, such as too many open files. `listen` reports those of the start to its caller too. */
  #serverError(error: Error): void {
    const { log, clock } = this.#core;
    log.write({
      time: clock.now(),
      kind: 'system',
      level: 'error',
      component: 'gateway',
      message: `listening: ${error.message}`,
    });
  }

  #admit(socket: Socket): void {
    const { settings, trusted } = this.#core;
    const { address, isTrusted } = trusted.peer(socket.remoteAddress);
    // A trusted proxy carries the connections of many.
    const isOver = !isTrusted && this.#uses.of(address).connections >= settings.maxConnectionsPerAddress;
    if (isOver || this.#sockets.size >= settings.maxConnections) {
      this.#refused++;
      writeDebug(this.#core, 'gateway', () => ({
        message: `connection turned away, there are too many ${isOver ? 'of this address' : 'in all'}`,
        client_address: address,
      }));
      socket.destroy();
      return;
    }
    const open = { socket, place: NOWHERE };
    this.#sockets.add(open);
    this.#uses.connected(address);
    socket.once('close', () => {
      this.#sockets.delete(open);
      this.#uses.disconnected(address);
    });
  }

  /** An idle HTTP/2 connection ends like an idle HTTP/1.1 one. */
  #keepSession(session: ServerHttp2Session): void {
    this.#sessions.set(session, rawSocketOf(session.socket));
    const connection = this.#connectionOf(session, session.socket as TLSSocket);
    session.setTimeout(this.#core.settings.keepAliveTimeoutMs, () => {
      if (connection.pending === 0) session.close();
    });
    session.on('error', (error) => tlsRecord(this.#tls, 'debug', `HTTP/2 session: ${error.message}`));
    session.once('close', () => this.#sessions.delete(session));
    if (this.#core.isDraining) session.close();
  }

  /**
   * An HTTP/2 connection that was ended waits for its client to read and to end its own side, or for a head that was
   * begun; not for ever. The first sweep finds it, the second cuts it.
   */
  #cutEnded(): void {
    for (const [session, socket] of this.#sessions) {
      if (this.#isBusy(session) || !(session.closed || session.destroyed)) continue;
      if (this.#ending.has(session)) socket?.destroy();
      else this.#ending.add(session);
    }
  }

  #isBusy(session: object): boolean {
    return (this.#connections.get(session)?.pending ?? 0) > 0;
  }

  #connectionOf(key: object, socket: Socket | TLSSocket): Connection {
    const known = this.#connections.get(key);
    if (known) return known;
    const isEncrypted = 'encrypted' in socket;
    const servername = isEncrypted && typeof socket.servername === 'string' ? socket.servername : '';
    const peer = this.#core.trusted.peer(socket.remoteAddress);
    const connection = {
      peer,
      address: this.#uses.of(peer.address),
      isEncrypted,
      servername: parseHostname(servername),
      shown: isEncrypted ? this.#clientAuth.shownOn(socket) : undefined,
      guard: this.#guards.get(key),
      pending: 0,
      isLast: false,
      waiting: [],
      current: undefined,
    };
    this.#connections.set(key, connection);
    return connection;
  }

  #connectionFor(request: ClientRequest): Connection {
    if (!isHttp2Request(request)) return this.#connectionOf(request.socket, request.socket);
    const { session, id } = request.stream;
    if (session && id !== undefined) this.#lateHeads.isWhole(session, id);
    return session
      ? this.#connectionOf(session, session.socket as TLSSocket)
      : this.#connectionOf(request.stream, request.socket as TLSSocket);
  }

  #receive(arrived: ArrivedRequest): void {
    const { request } = arrived;
    const connection = this.#connectionFor(request);
    if (isHttp2Request(request)) this.#begin(connection, arrived);
    // The engine reads on behind a request whose end is in doubt; nobody else does.
    else if (connection.isLast) return;
    else if (connection.pending > 0) this.#wait(connection, arrived, request.socket);
    else this.#beginHttp1(connection, arrived, request);
  }

  /**
   * Requests behind each other begin one after the other: side by side they would cost as many times what one
   * connection may, and could overtake each other.
   * @see {@link https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2 | RFC 9112 §9.3.2}
   */
  #wait({ waiting }: Connection, arrived: ArrivedRequest, socket: Socket): void {
    waiting.push(arrived);
    // What stands behind stays in the kernel; what was read in one piece with it is bounded by this.
    if (waiting.length > gatewayLimits.pipelinedRequests) socket.destroy();
    else socket.pause();
  }

  #beginHttp1(connection: Connection, arrived: ArrivedRequest, request: IncomingMessage): void {
    const { socket } = request;
    // Node (24.21) loses what stands behind a request whose Upgrade is not taken up in the same read.
    connection.isLast = request.headers.upgrade !== undefined;
    connection.current = this.#begin(connection, arrived);
    arrived.response.once('close', () => this.#guard(socket, () => this.#beginNext(connection, socket)));
  }

  #beginNext(connection: Connection, socket: Socket): void {
    const { waiting, isLast } = connection;
    if (isLast || socket.destroyed || socket.writableEnded) waiting.length = 0;
    const next = waiting.shift();
    if (waiting.length === 0) socket.resume();
    if (next && !isHttp2Request(next.request)) this.#beginHttp1(connection, next, next.request);
  }

  #begin(connection: Connection, arrived: ArrivedRequest): Transit {
    const transit = new Transit(this.#core, { ...arrived, connection });
    const { address } = connection;
    const end = () => {
      if (!transit.isDone) address.requests--;
      transit.finish();
    };
    if (arrived.upgrade) arrived.upgrade.socket.once('close', end);
    arrived.response.once('close', end);
    address.requests++;
    receive(transit);
    return transit;
  }

  /** Node has let go of the connection: a response of our own makes refusals like those of any request. */
  #receiveUpgrade(request: IncomingMessage, upgrade: UpgradeRequest): void {
    const socket = upgrade.socket as Socket;
    socket.on('error', () => socket.destroy());
    // The reply to the request before it has the socket; a client that upgrades has read that one first.
    if (this.#connectionFor(request).pending > 0) {
      socket.destroy();
      return;
    }
    const response = new ServerResponse(request);
    response.assignSocket(socket);
    response.shouldKeepAlive = false;
    socket.on('drain', () => response.emit('drain'));
    response.once('finish', () => socket.destroySoon());
    this.#receive({ request, response: seam(response), upgrade });
  }

  /** @see {@link https://www.rfc-editor.org/rfc/rfc8441#section-4 | RFC 8441 §4} */
  #receiveConnect(request: Http2ServerRequest, response: Http2ServerResponse): void {
    const protocol = request.headers[':protocol'];
    if (typeof protocol === 'string')
      this.#receive({
        request,
        response: seam(response),
        upgrade: { socket: response.stream, head: NOTHING, protocol },
      });
    else this.#receive({ request, response: seam(response) });
  }

  /** What never became a request, or stopped being one in the middle. */
  #clientError(error: Error, socket: Socket): void {
    const connection = this.#connectionOf(socket, socket);
    const { current, pending, waiting } = connection;
    const fault = faultOf(error);
    // A reply to the request before this one must not be mistaken for the reply to it.
    const isAnswerable =
      waiting.length === 0 && (current === undefined || (pending === 1 && !current.request.complete));
    if (!fault || !socket.writable || !isAnswerable || current?.response.headersSent) {
      socket.destroy();
      return;
    }
    const traceId = current?.traceId ?? newTraceId();
    if (current) {
      current.status = fault.status;
      current.outcome = fault.code;
      current.reason = fault.reason;
    } else this.#recordMalformed(connection, fault, traceId);
    socket.end(rawReply(fault, traceId), () => socket.destroy());
  }

  /** Whoever speaks plain HTTP to the HTTPS port typed an address, and is told; other errors are told by an alert. */
  #handshakeError(error: Error, tlsSocket: TLSSocket): void {
    this.#core.meter.handshakeFailed('code' in error ? String(error.code) : 'unknown');
    tlsRecord(this.#tls, 'debug', `handshake: ${error.message}`);
    const fault = faultOf(error);
    const socket = fault && rawSocketOf(tlsSocket);
    if (!socket) return;
    const traceId = newTraceId();
    this.#recordMalformed(this.#connectionOf(socket, socket), fault, traceId);
    socket.end(rawReply(fault, traceId), () => socket.destroy());
  }

  #recordMalformed({ peer }: Connection, fault: ClientFault, traceId: string): void {
    const { log, clock } = this.#core;
    if (!log.enabled('gateway', 'info')) return;
    log.write({
      time: clock.now(),
      kind: 'access',
      level: 'info',
      component: 'gateway',
      message: `malformed request ${fault.status}`,
      trace_id: traceId,
      status: fault.status,
      duration_ms: 0,
      bytes_in: 0,
      bytes_out: 0,
      client_address: peer.address,
      outcome: fault.code,
      detail: { request: 'malformed', reason: cleanText(fault.reason) },
    });
  }
}

function trustFor({ snapshots }: GatewayCore, hostname: string): ClientTrust | undefined {
  const auth = snapshots.current.table.proxyOf(hostname)?.client_auth;
  return auth && auth.mode !== 'off' ? auth : undefined;
}

/** Node's types leave out some of what both responses have. */
const seam = (response: ServerResponse | Http2ServerResponse): ClientResponse =>
  response as unknown as ClientResponse;

function listening(server: NetServer, port: number, host: string): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host }, () => {
      server.off('error', reject);
      // A server that listens on a port has an address of this form.
      resolve(server.address() as AddressInfo);
    });
  });
}
