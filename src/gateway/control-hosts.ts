/** Which hostnames are the control plane, and what absolute URLs are made of. */
import { parseHostname } from '../core/hostname.ts';
import { isControlHost, type Ports } from '../routes/decide.ts';
import { authorityOf } from '../routes/normalise.ts';
import type { GatewaySettings } from './settings.ts';

export class ControlHosts {
  readonly #control: ReadonlySet<string>;
  readonly #publicUrl: URL | undefined;

  constructor({ controlHosts, publicUrl }: GatewaySettings) {
    this.#control = new Set(controlHosts.map((host) => parseHostname(host) ?? host));
    this.#publicUrl = publicUrl === undefined ? undefined : new URL(publicUrl);
  }

  isControl(hostname: string, isLocal: boolean): boolean {
    return isControlHost(this.#control, hostname, isLocal);
  }

  /** The authorization server that grants tokens for a hostname that is none of the control plane's. */
  issuer(httpsPort: number): string {
    const [host = 'localhost'] = this.#control;
    return this.#publicUrl?.origin ?? `https://${authorityOf(host, httpsPort, 'https')}`;
  }

  /** For who reaches a protected name of loopback over plain HTTP, the control host is reached so as well. */
  siteIssuer(scheme: 'http' | 'https', ports: Ports): string {
    const [host = 'localhost'] = this.#control;
    return scheme === 'http' && this.#publicUrl === undefined
      ? `http://${authorityOf(host, ports.http, 'http')}`
      : this.issuer(ports.https);
  }

  /** `https://host:port` as the client reaches this host. */
  baseUrl(scheme: 'http' | 'https', hostname: string, authority: string): string {
    const url = this.#publicUrl;
    return url?.hostname === hostname ? url.origin : `${scheme}://${authority}`;
  }
}
