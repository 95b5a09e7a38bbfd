/** Configuration, as it is written in files, to the settings of the parts, in the units of code. */
import { getServers } from 'node:dns';
import type { MailServer } from './alerts/mail.ts';
import type { Webhook } from './alerts/webhook.ts';
import { LETS_ENCRYPT_LIMITS } from './certificates/budget.ts';
import { isPublicDirectory, type IssuanceSettings, type Issuer } from './certificates/issuers.ts';
import type { DnsOptions } from './certificates/dns/providers.ts';
import { parseServer } from './certificates/dns/schema.ts';
import type { OnDemandRule } from './certificates/on-demand.ts';
import { LETS_ENCRYPT } from './config/acme.ts';
import type { Config } from './config/config.ts';
import { parseListen } from './config/metrics.ts';
import { pairsIn } from './config/telemetry.ts';
import { GITHUB_URL } from './config/upstreams.ts';
import { isOwnNetwork } from './core/addresses.ts';
import { assert } from './core/assert.ts';
import { DEFAULT_SCOPE } from './core/permissions.ts';
import type { GatewaySettings } from './gateway/settings.ts';
import type { McpSettings } from './interfaces/mcp/settings.ts';
import { levelsOf } from './logs/levels.ts';
import type { LogSinkOptions } from './logs/sink.ts';
import type { UpstreamSettings } from './oauth/upstreams/upstream.ts';
import { isLoopbackAddress } from './routes/own.ts';
import type { OtlpSettings } from './telemetry/settings.ts';

type LogSettings = Omit<LogSinkOptions, 'directory' | 'clock'>;

export function logSettings({ log }: Config): LogSettings {
  return {
    queueRecords: log.queue_records,
    levels: levelsOf(log.level),
    retentionDays: log.retention_days,
    retentionBytes: log.retention_bytes,
    compressAfterDays: log.compress_after_days,
    stderr: log.stderr,
  };
}

export function gatewaySettings(config: Config): GatewaySettings {
  const { gateway, mcp } = config;
  return {
    bind: config.bind,
    httpPort: config.http_port,
    httpsPort: config.https_port,
    controlHosts: config.control.hosts,
    publicUrl: config.control.public_url,
    trustedProxies: gateway.trusted_proxies,
    headerTimeoutMs: gateway.header_timeout_ms,
    bodyTimeoutMs: gateway.body_timeout_ms,
    keepAliveTimeoutMs: gateway.keep_alive_timeout_ms,
    maxHeaderBytes: gateway.max_header_bytes,
    maxHeaders: gateway.max_headers,
    maxConnections: gateway.max_connections,
    maxConnectionsPerAddress: gateway.max_connections_per_address,
    maxStreamsPerConnection: gateway.max_streams_per_connection,
    drainTimeoutMs: gateway.drain_timeout_ms,
    mcp: {
      access: mcp.access,
      hosts: mcp.hosts,
      allowedOrigins: mcp.allowed_origins,
      callsPerMinute: mcp.calls_per_minute,
      callsPerMinutePerAddress: mcp.calls_per_minute_per_address,
      failuresPerMinutePerAddress: mcp.failures_per_minute_per_address,
      scopes: [DEFAULT_SCOPE],
      resourceName: 'OAuth HTTPS Proxy',
    },
  };
}

export function mcpSettings({ mcp }: Config): McpSettings {
  return {
    confirm: mcp.confirm,
    strictAccept: mcp.strict_accept,
    toolsets: mcp.toolsets,
    readOnly: mcp.read_only,
    sessionIdleMs: mcp.session_idle_ms,
    maxSessions: mcp.max_sessions,
    maxSessionsPerPrincipal: mcp.max_sessions_per_principal,
    maxEventStreams: mcp.max_event_streams,
    maxEventStreamsPerPrincipal: mcp.max_event_streams_per_principal,
  };
}

/** What is asked for where the settings say nothing. */
const usualScopes = { oidc: ['openid', 'email', 'profile'], github: ['user:email'] } as const;

export function upstreamSettings({ oauth }: Config): UpstreamSettings[] {
  return oauth.upstreams.map((upstream) => {
    const {
      name,
      title,
      kind,
      issuer = GITHUB_URL,
      client_id: clientId,
      client_secret: clientSecret,
    } = upstream;
    assert(clientSecret !== undefined, `the settings have read the client secret of ${name}`);
    return {
      name,
      title,
      kind,
      issuer: issuer.replace(/\/$/, ''),
      clientId,
      clientSecret,
      scopes: upstream.scopes ?? usualScopes[kind],
      groupsClaim: upstream.groups_claim,
      allow: upstream.allow,
      newRole: upstream.create_users ? upstream.role : undefined,
    };
  });
}

export function webhookOf({ alerts }: Config): Webhook | undefined {
  const { webhook_url: url, webhook_secret: secret } = alerts;
  if (url === undefined) return undefined;
  assert(secret !== undefined, 'the settings have read the secret of the webhook');
  return { url, secret };
}

/** Undefined: metrics have no listener of their own. */
export function metricsSettings({
  metrics,
}: Config): { address: string; port: number; isOpen: boolean } | undefined {
  if (metrics.listen === undefined) return undefined;
  const at = parseListen(metrics.listen);
  assert(at !== undefined, 'the settings have read the address');
  const isOwn = isOwnNetwork(at.address);
  return { ...at, isOpen: metrics.access === undefined ? isOwn : metrics.access === 'open' };
}

/** Undefined: nothing is sent. */
export function otlpSettings({ telemetry }: Config): OtlpSettings | undefined {
  const { endpoint, headers, service_name, resource_attributes, ...otlp } = telemetry.otlp;
  if (endpoint === undefined) return undefined;
  return {
    endpoint,
    headers: headers === undefined ? {} : (pairsIn(headers) ?? {}),
    ca: otlp.ca_pem,
    traces: otlp.traces,
    logs: otlp.logs,
    metrics: otlp.metrics,
    samplingShare: otlp.sampling_share,
    attributes: { 'service.name': service_name, ...resource_attributes },
    timeoutMs: otlp.timeout_ms,
    intervalMs: otlp.interval_ms,
    metricsIntervalMs: otlp.metrics_interval_ms,
    queueItems: otlp.queue_items,
  };
}

const IMPLICIT_TLS_PORT = 465;
const SUBMISSION_PORT = 587;

export function mailServerOf({ alerts: { smtp } }: Config): MailServer | undefined {
  if (smtp === undefined) return undefined;
  const { host, tls, username, password, from, to, ca_pem: trustPem } = smtp;
  const { port = tls === 'implicit' ? IMPLICIT_TLS_PORT : SUBMISSION_PORT } = smtp;
  assert((username === undefined) === (password === undefined), 'the settings have read the password');
  const login = username === undefined || password === undefined ? undefined : { username, password };
  return { host, port, tls, trustPem, login, from, to };
}

const LETS_ENCRYPT_DOMAIN = /(?:^|\.)letsencrypt\.org$/;
const DEFAULT_ISSUER = 'default';

const onDemandRule = (rule: NonNullable<Config['acme']['on_demand']>): OnDemandRule => ({
  allow: rule.allow,
  ask: rule.ask,
  perMinute: rule.per_minute,
  perWildcardAndDay: rule.per_wildcard_per_day,
  perDomainAndDay: rule.per_domain_per_day,
});

export function issuanceSettings({
  acme,
  bind,
}: Config): IssuanceSettings & { onDemand: OnDemandRule | undefined } {
  const issuers = acme.issuers.length > 0 ? acme.issuers.map((each) => issuerOf(acme, each)) : [];
  const { directory = LETS_ENCRYPT, ca_pem } = acme;
  if (issuers.length === 0) issuers.push(issuerOf(acme, { name: DEFAULT_ISSUER, directory, ca_pem }));
  return {
    issuers,
    off: whyOff(acme, bind),
    ownerBudget: { perDay: acme.orders_per_owner_per_day, perWeek: acme.orders_per_owner_per_week },
    onDemand: acme.on_demand && onDemandRule(acme.on_demand),
  };
}

function issuerOf(
  { email }: Config['acme'],
  entry: Pick<Config['acme']['issuers'][number], 'name' | 'directory'> &
    Partial<Config['acme']['issuers'][number]>,
): Issuer {
  const {
    name,
    directory,
    ca_pem,
    eab_key_id: keyId,
    eab_hmac_key: hmacKey,
    profile,
    preferred_chain,
  } = entry;
  const isLetsEncrypt = LETS_ENCRYPT_DOMAIN.test(new URL(directory).hostname);
  return {
    name,
    directoryUrl: directory,
    contact: email === undefined ? [] : [`mailto:${email}`],
    trustPem: ca_pem,
    externalAccount: keyId !== undefined && hmacKey !== undefined ? { keyId, hmacKey } : undefined,
    profile,
    preferredChain: preferred_chain,
    isPublic: isPublicDirectory(directory),
    limits: isLetsEncrypt ? LETS_ENCRYPT_LIMITS : undefined,
  };
}

export function dnsSettings(
  config: Config,
): Pick<DnsOptions, 'providers' | 'resolvers' | 'propagationTimeoutMs'> {
  return {
    providers: config.dns,
    // The system may know resolvers in a form that ours can't ask.
    resolvers: config.dns_resolvers ?? getServers().filter((text) => parseServer(text) !== undefined),
    propagationTimeoutMs: config.dns_propagation_timeout_ms,
  };
}

/** No CA reaches the listeners on loopback, so nobody is asked there unless somebody chose a CA. */
function whyOff({ mode, directory, issuers }: Config['acme'], bind: string): string | undefined {
  if (mode === 'off') return 'acme.mode is off';
  if (directory !== undefined || issuers.length > 0 || !isLoopbackAddress(bind)) return undefined;
  return `the listeners are on ${bind}, where no CA reaches them; set bind, or acme.directory for a CA that does`;
}
