/** Which hostnames are the control plane, which answer at `/mcp`, and what their absolute URLs are. */
import { coversHostname, parseHostname } from '../core/hostname.ts';
import type { GatewaySettings } from './settings.ts';

/** Whole addresses only: `127.0.0.1.example.com` is a name that anyone can register and point here. */
const LOOPBACK = /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$|^::1$/;

export const isLoopbackAddress = (hostname: string): boolean => LOOPBACK.test(hostname);

/** The authority of an absolute URL: IPv6 in brackets, the port only where it is not the scheme's own. */
export function authorityOf(hostname: string, port: number | undefined, scheme: 'http' | 'https'): string {
  const host = hostname.includes(':') ? `[${hostname}]` : hostname;
  return port === undefined || port === (scheme === 'https' ? 443 : 80) ? host : `${host}:${port}`;
}

export class ControlHosts {
  readonly #control: ReadonlySet<string>;
  readonly #mcp: readonly string[];
  readonly #publicUrl: URL | undefined;

  constructor({ controlHosts, publicUrl, mcp }: GatewaySettings) {
    this.#control = new Set(controlHosts.map((host) => parseHostname(host) ?? host));
    this.#mcp = mcp.hosts.map((host) => (host.startsWith('*.') ? host : (parseHostname(host) ?? host)));
    this.#publicUrl = publicUrl === undefined ? undefined : new URL(publicUrl);
  }

  /** A bare loopback address counts only on connections that come from there. */
  isControl(hostname: string, isLocal: boolean): boolean {
    return this.#control.has(hostname) || (isLocal && isLoopbackAddress(hostname));
  }

  /** Of a served hostname. The control host always does. */
  answersMcp(hostname: string): boolean {
    return this.#mcp.length === 0 || this.#mcp.some((pattern) => coversHostname(pattern, hostname));
  }

  /** `https://host:port` as the client reaches this host. */
  baseUrl(scheme: 'http' | 'https', hostname: string, authority: string): string {
    const url = this.#publicUrl;
    return url?.hostname === hostname ? url.origin : `${scheme}://${authority}`;
  }
}
