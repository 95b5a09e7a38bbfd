/** What a handshake for a name gets from the product. */
import type { X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';
import type { Product } from './product.ts';

export function handshake(
  { httpsPort }: Pick<Product, 'httpsPort'>,
  servername: string,
): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connect(
      { host: '127.0.0.1', port: httpsPort, servername, rejectUnauthorized: false },
      () => {
        resolve(socket.getPeerX509Certificate() as X509Certificate);
        socket.destroy();
      },
    );
    socket.on('error', reject);
  });
}
