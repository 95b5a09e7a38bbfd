/**
 * The door of the HTTPS port: where a connection may have to go elsewhere (a challenge of a CA, a host that asks for
 * client certificates), its hello is read before the handshake begins and put back. Node chooses certificates before
 * protocols, and asks for those of clients by server and not by name. While no place may be meant, no connection is
 * looked at. A hello that can't be read goes to the server itself.
 */
import type { Server, Socket } from 'node:net';
import type { Clock } from '../core/clock.ts';
import { type ClientHello, HelloReader, MAX_HELLO_BYTES } from './client-hello.ts';

/** Another place for connections than the server. */
export interface Place {
  /** Whether it may be meant at all. */
  readonly isAsked: () => boolean;
  readonly isMeant: (hello: ClientHello) => boolean;
  readonly server: Server;
}

interface Patience {
  readonly clock: Clock;
  readonly handshakeTimeoutMs: number;
}

/**
 * Stands in front of how `server` begins its connections; call it before others listen for them. The first place that
 * is meant gets the connection.
 */
export function keepDoor(server: Server, places: readonly Place[], patience: Patience): void {
  const beginners = server.listeners('connection');
  const begin = (socket: Socket) => {
    for (const beginner of beginners) Reflect.apply(beginner, server, [socket]);
  };
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    if (!places.some(({ isAsked }) => isAsked())) return begin(socket);
    look(socket, patience, (hello) => {
      const place = hello && places.find((one) => one.isAsked() && one.isMeant(hello));
      if (place) place.server.emit('connection', socket);
      else begin(socket);
    });
  });
}

/** Reads the hello and puts it back. */
function look(
  socket: Socket,
  { clock, handshakeTimeoutMs }: Patience,
  decide: (hello: ClientHello | undefined) => void,
): void {
  const reader = new HelloReader();
  const chunks: Buffer[] = [];
  let size = 0;
  const timer = clock.after(handshakeTimeoutMs, () => socket.destroy());
  const fail = () => socket.destroy();
  const end = () => {
    timer.cancel();
    socket.off('readable', read);
    socket.off('error', fail);
    socket.off('close', end);
    socket.off('end', fail);
  };
  const read = () => {
    const chunk: unknown = socket.read();
    if (!Buffer.isBuffer(chunk)) return;
    chunks.push(chunk);
    size += chunk.length;
    const hello = reader.read(chunk);
    if (hello === 'incomplete' && size <= MAX_HELLO_BYTES) return;
    end();
    socket.unshift(Buffer.concat(chunks));
    decide(typeof hello === 'object' ? hello : undefined);
  };
  socket.on('readable', read);
  socket.on('error', fail);
  socket.on('close', end);
  socket.on('end', fail);
}
