/**
 * What this system answers itself, whatever a target serves there. One place, so that the gateway, which answers, and
 * `test_route`, which tells of it, can't disagree. Pure.
 */
import { coversHostname } from '../core/hostname.ts';
import type { Proxy } from '../proxies/schema.ts';

const WELL_KNOWN = '/.well-known/';
/** @see {@link https://www.rfc-editor.org/rfc/rfc9728#section-3.1 | RFC 9728 §3.1} */
export const METADATA_PATH = `${WELL_KNOWN}oauth-protected-resource`;
/** @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-8.3 | RFC 8555 §8.3} */
export const ACME_PREFIX = `${WELL_KNOWN}acme-challenge/`;

export const mcpPaths: readonly string[] = ['/mcp', '/mcp/'];
export const metadataPaths: readonly string[] = ['', ...mcpPaths].map((path) => METADATA_PATH + path);

/** Sign-in of browsers, on hostnames that ask for it. */
const SITE_PREFIX = '/.ohp/';
export const sitePaths = {
  signIn: `${SITE_PREFIX}sign-in`,
  callback: `${SITE_PREFIX}callback`,
  signOut: `${SITE_PREFIX}sign-out`,
} as const;
export const isSitePath = (path: string): boolean => path.startsWith(SITE_PREFIX);

/** For whoever keeps a front of their own, on the control host. */
export const VERIFY_PATH = '/auth/verify';

/** The path whose metadata is asked for; undefined when it is no metadata that is. */
export function describedPath(path: string): string | undefined {
  if (path === METADATA_PATH) return '';
  return path.startsWith(`${METADATA_PATH}/`) ? path.slice(METADATA_PATH.length) : undefined;
}

/** Answered on the control host, in the clear too: they tell nothing. */
export const isProbePath = (path: string): boolean => path === '/healthz' || path === '/readyz';

/** `acme`: on every hostname. `mcp` and its `metadata`: on the control host, and where `answersMcp` says so. */
export type OwnKind = 'acme' | 'mcp' | 'metadata';

/** What a canonical path is for, where this system answers it. */
export function ownKindOf(path: string): OwnKind | undefined {
  if (path === '/mcp' || path === '/mcp/') return 'mcp';
  if (!path.startsWith(WELL_KNOWN)) return undefined;
  if (path.startsWith(ACME_PREFIX)) return 'acme';
  return metadataPaths.includes(path) ? 'metadata' : undefined;
}

/**
 * Whether `/mcp` on a hostname of this proxy is this system's rather than its target's. `mcpHosts` is the setting
 * `mcp.hosts`, canonical; empty: every served hostname.
 */
export function answersMcp(proxy: Proxy, hostname: string, mcpHosts: readonly string[]): boolean {
  if (!proxy.serve_mcp) return false;
  return mcpHosts.length === 0 || mcpHosts.some((pattern) => coversHostname(pattern, hostname));
}

/** Whole addresses only: `127.0.0.1.example.com` is a name that anyone can register and point here. */
const LOOPBACK = /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$|^::1$/;

/** A control host for clients on this machine, by its address. */
export const isLoopbackAddress = (hostname: string): boolean => LOOPBACK.test(hostname);
