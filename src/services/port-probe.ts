/** Whether something on this machine, whoever it belongs to, has a port already: by trying to have it. */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import type { Place } from './claims.ts';

export type PortProbe = (place: Place) => Promise<boolean>;

/** True: nothing has it. What can't be tried is left to the engine to refuse. */
export const isPortFree: PortProbe = ({ address, port, protocol }) =>
  protocol === 'tcp' ? isTcpFree(address, port) : isUdpFree(address, port);

function isTcpFree(host: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once('error', (error) => resolve(!isInUse(error)));
  server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  return promise;
}

function isUdpFree(address: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.once('error', (error) => {
    socket.close();
    resolve(!isInUse(error));
  });
  socket.bind({ address, port, exclusive: true }, () => socket.close(() => resolve(true)));
  return promise;
}

const isInUse = (error: Error): boolean => 'code' in error && error.code === 'EADDRINUSE';
