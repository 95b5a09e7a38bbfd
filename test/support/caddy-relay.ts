/** Runs in the network of `caddy-ca.ts`: its ports 80 and 443 lead out, its ACME server and DNS can be reached from outside. */
import { join } from 'node:path';
import { relay } from './program.ts';

const [folder = '', acmePort, resolver = '', dnsPort] = process.argv.slice(2);
const socket = (name: string) => ({ path: join(folder, `${name}.sock`) });
const inside = { host: '127.0.0.1' };

await relay({ ...inside, port: 80 }, socket('http'));
await relay({ ...inside, port: 443 }, socket('tls'));
await relay(socket('acme'), { ...inside, port: Number(acmePort) });
if (resolver !== '') await relay({ host: resolver, port: 53 }, socket('resolver'));
else await relay(socket('dns'), { ...inside, port: Number(dnsPort) });
