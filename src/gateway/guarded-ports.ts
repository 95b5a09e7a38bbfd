/**
 * Ports of services that not everybody may reach: a listener of this process at the address that the service asked for, in
 * front of a port that its engine publishes to this machine only. Who may come is decided by the address of the connection,
 * by a token, or by both. With a token every connection is one of the HTTP listener, and its requests go through the pipeline
 * with the service as the only place they can lead to; without, bytes pass both ways. The control plane opens and closes them.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Timer } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { RateLimiter } from '../core/rate-limit.ts';
import type { AuthPolicy } from '../proxies/auth-policy.ts';
import { type Proxy, proxySettings } from '../proxies/schema.ts';
import { createTable, type Match, matchRequest } from '../routes/match.ts';
import { AddressUses } from './address-use.ts';
import { addressRanges, rateKey } from './client-address.ts';
import type { GatewayCore } from './core.ts';
import { recordFault } from './fault-record.ts';
import { gatewayLimits } from './settings.ts';

type Permission = Extract<AuthPolicy, { kind: 'token' }>['permission'];

export interface GuardedPort {
  /** Where it listens. */
  readonly address: string;
  readonly port: number;
  /** Of 127.0.0.1, where the engine publishes it. */
  readonly targetPort: number;
  /** Addresses and ranges that may connect; undefined: all. */
  readonly sources: readonly string[] | undefined;
  /** That the API token of each request needs; undefined: no token is asked for, and it need not be HTTP. */
  readonly permission: Permission | undefined;
}

export interface GuardedService {
  readonly id: string;
  readonly name: string;
  readonly ports: readonly GuardedPort[];
}

/** Where every request of a connection leads. */
export interface Guard {
  /** `service:port`: no hostname, so that no credential is confined to it, and no token of OAuth is for it. */
  readonly label: string;
  readonly match: Match;
}

export interface GuardedPorts {
  /**
   * These and no others of the service are open; nothing happens where they are already. A failure leaves none.
   * @throws what listening failed with.
   */
  open(service: GuardedService): Promise<void>;
  /** With every connection to them. */
  close(serviceId: string): void;
}

/** An open port. */
interface Door {
  readonly server: Server;
  readonly sockets: Set<Socket>;
}

interface Opened {
  /** What was asked for, to be compared. */
  readonly text: string;
  readonly doors: Door[];
}

interface Pipe {
  readonly client: Socket;
  readonly target: Socket;
  bytes: number;
  movedAt: number;
}

const LOCAL = '127.0.0.1';

export class PortKeeper implements GuardedPorts {
  readonly #core: GatewayCore;
  /** To the HTTP listener. */
  readonly #adopt: (socket: Socket, guard: Guard) => void;
  readonly #opened = new Map<string, Opened>();
  readonly #pipes = new Set<Pipe>();
  readonly #uses = new AddressUses();
  readonly #records: RateLimiter;
  readonly #idle: Timer;
  /** Refusals without a record, since the last that has one. */
  #untold = 0;
  #isStopped = false;

  constructor(core: GatewayCore, adopt: (socket: Socket, guard: Guard) => void) {
    this.#core = core;
    this.#adopt = adopt;
    this.#records = new RateLimiter(
      core.clock,
      gatewayLimits.refusalRecordsPerMinute,
      gatewayLimits.rateEntries,
    );
    this.#idle = core.clock.every(gatewayLimits.guardedSweepMs, () => this.#cutIdle());
  }

  async open(service: GuardedService): Promise<void> {
    const text = JSON.stringify(service.ports);
    if (this.#opened.get(service.id)?.text === text) return;
    this.close(service.id);
    if (service.ports.length === 0) return;
    const opened: Opened = { text, doors: [] };
    this.#opened.set(service.id, opened);
    try {
      for (const port of service.ports) {
        if (this.#isStopped) throw new AppError('UNAVAILABLE', 'the server is shutting down');
        opened.doors.push(await this.#listen(service, port));
      }
      if (this.#isStopped) throw new AppError('UNAVAILABLE', 'the server is shutting down');
    } catch (cause) {
      for (const door of opened.doors) close(door);
      this.#opened.delete(service.id);
      throw cause;
    }
  }

  close(serviceId: string): void {
    for (const door of this.#opened.get(serviceId)?.doors ?? []) close(door);
    this.#opened.delete(serviceId);
  }

  /** What passes bytes has no end of its own and ends now; requests are left to who answers them. */
  stop(): void {
    this.#isStopped = true;
    this.#idle.cancel();
    this.#records.stop();
    for (const { doors } of this.#opened.values()) for (const { server } of doors) server.close();
    for (const { client } of this.#pipes) client.destroy();
    this.#opened.clear();
  }

  async #listen(service: GuardedService, port: GuardedPort): Promise<Door> {
    // As Node's own HTTP server does: a client that has sent all that it wants to still reads.
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    const door = { server, sockets: new Set<Socket>() };
    const accept = this.#accepting(door, service, port);
    server.on('connection', (socket) => {
      try {
        accept(socket);
      } catch (cause) {
        socket.destroy();
        recordFault(this.#core, 'a guarded port failed', cause);
      }
    });
    await listening(server, port);
    server.on('error', (cause) => recordFault(this.#core, 'a guarded port failed', cause));
    return door;
  }

  #accepting({ sockets }: Door, service: GuardedService, port: GuardedPort): (socket: Socket) => void {
    const isAllowed = port.sources === undefined ? () => true : addressRanges(port.sources);
    const guard = port.permission === undefined ? undefined : guardOf(service, port, port.permission);
    return (socket) => {
      const fault = this.#faultOf(socket, sockets, isAllowed);
      if (fault !== undefined) {
        this.#refuse(socket, fault, { service: service.name, port: port.port });
        return;
      }
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      if (guard) this.#adopt(socket, guard);
      else this.#pipe(socket, port.targetPort);
    };
  }

  #faultOf(
    { remoteAddress }: Socket,
    { size }: Door['sockets'],
    isAllowed: (address: string | undefined) => boolean,
  ): string | undefined {
    if (!isAllowed(remoteAddress)) return 'its address is not allowed';
    if (size >= gatewayLimits.connectionsPerGuardedPort) return 'there are too many connections to this port';
    const { address } = this.#core.trusted.peer(remoteAddress);
    return this.#uses.of(address).connections >= this.#core.settings.maxConnectionsPerAddress
      ? 'there are too many connections of its address'
      : undefined;
  }

  /** Whoever connects again and again fills no log: each address has its share of records, and all have one together. */
  #refuse(socket: Socket, reason: string, detail: { service: string; port: number }): void {
    const { address } = this.#core.trusted.peer(socket.remoteAddress);
    socket.destroy();
    if (this.#records.take(rateKey(address)) > 0 || this.#records.take('all', 1 / SHARE) > 0) {
      this.#untold++;
      return;
    }
    const { log, clock } = this.#core;
    log.write({
      time: clock.now(),
      kind: 'access',
      level: 'info',
      component: 'gateway',
      message: `connection to ${detail.service}:${detail.port} refused: ${reason}`,
      client_address: address,
      outcome: 'FORBIDDEN',
      detail: { ...detail, reason, ...(this.#untold > 0 && { not_told_before: this.#untold }) },
    });
    this.#untold = 0;
  }

  #pipe(client: Socket, port: number): void {
    const { clock, trusted } = this.#core;
    const { address } = trusted.peer(client.remoteAddress);
    const target = connect({ host: LOCAL, port, allowHalfOpen: true, noDelay: true });
    const pipe = { client, target, bytes: 0, movedAt: clock.now() };
    const timer = clock.after(gatewayLimits.guardedConnectMs, () => target.destroy());
    target.once('connect', () => timer.cancel());
    this.#pipes.add(pipe);
    this.#uses.connected(address);
    for (const [from, to] of [
      [client, target],
      [target, client],
    ] as const) {
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        if (!from.readableEnded || !from.writableFinished) to.destroy();
      });
    }
    target.once('close', () => timer.cancel());
    client.once('close', () => {
      this.#pipes.delete(pipe);
      this.#uses.disconnected(address);
    });
  }

  #cutIdle(): void {
    const now = this.#core.clock.now();
    for (const pipe of this.#pipes) {
      const bytes = pipe.client.bytesRead + pipe.target.bytesRead;
      if (bytes !== pipe.bytes) Object.assign(pipe, { bytes, movedAt: now });
      else if (now - pipe.movedAt >= gatewayLimits.guardedIdleMs) pipe.client.destroy();
    }
  }
}

/** How many addresses may have all their records in one minute. */
const SHARE = 10;

function close({ server, sockets }: Door): void {
  server.close();
  for (const socket of sockets) socket.destroy();
}

function listening(server: Server, { address, port }: GuardedPort): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // `::` is IPv6 alone, as an engine publishes it; what is meant for IPv4 says so.
    server.listen({ host: address, port, ipv6Only: address.includes(':') }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

const UNKNOWN_TIME = new Date(0).toISOString();

/** A service as a proxy of its own, which is in no table but this one. */
function guardOf(
  { id, name }: GuardedService,
  { port, targetPort }: GuardedPort,
  permission: Permission,
): Guard {
  const label = `${name}:${port}`;
  const auth: AuthPolicy = { kind: 'token', permission };
  const proxy: Proxy = Object.freeze({
    ...proxySettings.parse({
      target_url: `http://${LOCAL}:${targetPort}`,
      redirect_to_https: false,
      serve_mcp: false,
    }),
    id,
    hostname: label,
    auth,
    owner: id,
    version: 1,
    created_at: UNKNOWN_TIME,
    updated_at: UNKNOWN_TIME,
  });
  const match = matchRequest(createTable([proxy], []), label, 'GET', '/');
  if (!match) throw new Error(`${label} leads nowhere`);
  return { label, match };
}
