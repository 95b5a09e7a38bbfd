/** What Node's HTTP engines are told: limits, and what counts as leaving HTTP. For `listen.ts`. */
import type { IncomingMessage } from 'node:http';
import type { GatewayCore } from './core.ts';
import { gatewayLimits } from './settings.ts';

/** @see {@link https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1 | RFC 9113 §8.3.1} */
const PSEUDO_FIELDS = 4;
/** Looks for slow heads this often; more often where the limit is short. */
const MAX_CHECK_MS = 5000;

/** @see {@link https://www.rfc-editor.org/rfc/rfc9110#section-7.8 | RFC 9110 §7.8}: a list, each with a version or without. */
const OFFERS_HTTP = /(?:^|,)\s*(?:h2c?|https?|tls)\s*(?:\/|,|$)/i;

/**
 * `Upgrade: h2c`, which some clients send with every request, is no reason to leave HTTP; and what offers, anywhere in
 * its list, a protocol of further requests is none, since those would go to the upstream past every decision here.
 */
export function shouldUpgradeCallback({ headers, method }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade !== undefined && !OFFERS_HTTP.test(headers.upgrade);
}

export const checkMs = ({ settings }: Pick<GatewayCore, 'settings'>): number =>
  Math.max(1, Math.min(MAX_CHECK_MS, Math.floor(settings.headerTimeoutMs / 2)));

export function serverOptions({ settings }: GatewayCore) {
  return {
    maxHeaderSize: settings.maxHeaderBytes,
    headersTimeout: settings.headerTimeoutMs,
    // The whole of a long upload may take its time; `watch` looks after silence in the middle of it.
    requestTimeout: 0,
    keepAliveTimeout: settings.keepAliveTimeoutMs,
    connectionsCheckingInterval: checkMs({ settings }),
    insecureHTTPParser: false,
    requireHostHeader: false,
    noDelay: true,
  };
}

export function http2Options({ settings }: GatewayCore) {
  return {
    settings: {
      maxConcurrentStreams: settings.maxStreamsPerConnection,
      maxHeaderListSize: settings.maxHeaderBytes,
      enableConnectProtocol: true,
    },
    maxHeaderListPairs: settings.maxHeaders + PSEUDO_FIELDS,
    // What upstreams repeat is passed on repeated, as over HTTP/1.1.
    strictSingleValueFields: false,
    maxSessionMemory: gatewayLimits.http2SessionMegabytes,
    maxSessionInvalidFrames: gatewayLimits.http2InvalidFrames,
    streamResetBurst: gatewayLimits.streamResetBurst,
    streamResetRate: gatewayLimits.streamResetRate,
  };
}
