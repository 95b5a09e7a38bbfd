/** What connections to a target are made by: its URL, and what its proxy says of trust and time. */
import type { Proxy } from '../proxies/schema.ts';
import type { Stay } from '../proxies/target-url.ts';
import type { Target } from './dialer.ts';

interface Wanted {
  readonly proxy: Proxy;
  readonly isOneOfSeveral: boolean;
  /** Of a service. */
  readonly stay?: Stay | undefined;
}

export function targetOf(url: URL, { proxy, isOneOfSeveral, stay }: Wanted): Target {
  const { verify_upstream_tls: isVerified, upstream_ca_pem: authorities, connect_timeout_ms } = proxy;
  const trust = [isVerified, connect_timeout_ms, isOneOfSeveral, authorities ?? ''];
  return {
    // Connections are shared by all that trust the same: what differs in trust must differ in the key.
    key: [url.origin, ...trust, stay?.key ?? ''].join('\n'),
    origin: url.origin,
    hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port),
    isEncrypted: url.protocol === 'https:',
    isVerified,
    authorities,
    connectTimeoutMs: connect_timeout_ms,
    isOneOfSeveral,
    stay,
  };
}
