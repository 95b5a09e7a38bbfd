/** Every setting, its default and its meaning. `config.md` and the editor's JSON Schema are written from this. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { patternFault, programFault } from '../admin/allow-list.ts';
import { templatesSchema } from '../admin/command-templates.ts';
import { dnsSettingsShape } from '../certificates/dns/schema.ts';
import { parseHostname, parseHostnamePattern } from '../core/hostname.ts';
import { logLevels } from '../core/record.ts';
import { toolsets } from '../core/operation.ts';
import { rangeFault } from '../gateway/client-address.ts';
import { policySchema } from '../services/policy.ts';
import { acmeSchema } from './acme.ts';
import { alertsSchema } from './alerts.ts';
import { brokerSchema, dockerSchema } from './docker.ts';
import { metricsSchema } from './metrics.ts';
import { originFault, publicUrlFault } from './origins.ts';
import { chosenFault, MAX_CHOSEN, MIN_CHOSEN } from '../tokens/credential.ts';
import { telemetrySchema, telemetryVariables } from './telemetry.ts';
import { upstreamList } from './upstreams.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const MAX_PORT = 65_535;
const MAX_LIST = 1000;

const port = (usual: number) => z.int().min(0).max(MAX_PORT).default(usual);
const count = (usual: number, max: number) => z.int().min(1).max(max).default(usual);
/** A check by a function that says what is wrong, or nothing. */
const faultOf = (faultIn: (text: string) => string | undefined) =>
  z.check<string>(({ value, issues }) => {
    const message = faultIn(value);
    if (message !== undefined) issues.push({ code: 'custom', input: value, message });
  });
/** In canonical form after parsing. */
const hostnames = (parse: (text: string) => string | undefined, expected: string) =>
  z
    .array(
      z
        .string()
        .refine((text) => parse(text) !== undefined, `has to be ${expected}`)
        .overwrite((text) => parse(text) ?? text),
    )
    .max(MAX_LIST);
/** Of an argument, in a rule of `commands.allow`. */
const pattern = z.string().max(500).check(faultOf(patternFault));

export const configSchema = z.strictObject({
  data_dir: z
    .string()
    .min(1)
    .default('./data')
    .describe('Folder for everything that is kept; made with mode 0700'),
  bind: z
    .string()
    .refine(
      (text) => isIP(text) !== 0,
      'has to be an IP address of this machine such as 127.0.0.1, or 0.0.0.0 or :: for every interface',
    )
    .default('127.0.0.1')
    .describe('Address to listen on; 0.0.0.0 or :: for every interface'),
  http_port: port(8080).describe('Port for plain HTTP; 0 lets the system choose'),
  https_port: port(8443).describe('Port for HTTPS; 0 lets the system choose'),
  admin_token: z
    .string()
    .min(MIN_CHOSEN, { abort: true })
    .max(MAX_CHOSEN, { abort: true })
    .check(faultOf(chosenFault))
    .optional()
    .meta({ secret: true })
    .describe(
      "At the first start, becomes the administrator's token: 32 to 512 characters of printable ASCII; otherwise one is generated and printed once. Later it is read by ohp reset admin-token only",
    ),
  master_key: z
    .string()
    .regex(/^[A-Za-z0-9_-]{43}=?$|^[0-9a-fA-F]{64}$/, 'has to be 32 bytes in base64url or hex')
    .optional()
    .meta({ secret: true })
    .describe(
      'Encrypts private keys at rest: 32 bytes in base64url or hex; otherwise kept in data_dir/master.key',
    ),
  control: z
    .strictObject({
      hosts: hostnames(parseHostname, 'a hostname such as localhost')
        .min(1)
        .default(['localhost'])
        .describe(
          'Hostnames that answer as the control plane; the first one is for clients that name no host',
        ),
      public_url: z
        .string()
        .check(faultOf(publicUrlFault))
        .optional()
        .describe('How the world reaches the control host, when a front of yours changes the URL'),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z
        .enum(logLevels)
        .default('info')
        .describe('Least level that is kept; set_log_level changes it per component until the next start'),
      stderr: z.boolean().default(true).describe('Also print system records of level warn and above'),
      retention_days: count(30, 3650).describe('Days that log files are kept'),
      retention_bytes: z
        .int()
        .min(MIB)
        .max(1024 * GIB)
        .default(4 * GIB)
        .describe('Size of all log files together; the oldest days go first'),
      compress_after_days: z
        .int()
        .min(0)
        .max(3650)
        .default(7)
        .describe('Log files of days older than this are compressed; 0: none'),
      queue_records: count(10_000, 1_000_000).describe(
        'Records that may wait for the writer; more are dropped and counted',
      ),
    })
    .prefault({}),
  audit: z
    .strictObject({
      retention_days: count(400, 36_500).describe('Days that files of the audit trail are kept'),
      alert_bytes: z
        .int()
        .min(MIB)
        .max(1024 * GIB)
        .default(4 * GIB)
        .describe('Size of the audit trail above which an alert is raised; nothing is deleted for it'),
    })
    .prefault({}),
  gateway: z
    .strictObject({
      trusted_proxies: z
        .array(z.string().check(faultOf(rangeFault)))
        .max(MAX_LIST)
        .default([])
        .describe('Addresses or CIDR ranges whose X-Forwarded-* and Forwarded headers are believed'),
      header_timeout_ms: count(15 * SECOND_MS, HOUR_MS).describe('For a client to send its request head'),
      body_timeout_ms: count(60 * SECOND_MS, HOUR_MS).describe(
        'Longest silence of a client in the middle of a body',
      ),
      keep_alive_timeout_ms: count(75 * SECOND_MS, HOUR_MS).describe(
        'An idle connection of a client is kept this long',
      ),
      max_header_bytes: z
        .int()
        .min(4 * KIB)
        .max(MIB)
        .default(32 * KIB)
        .describe('Request head'),
      max_headers: z.int().min(16).max(2000).default(200).describe('Header fields of a request'),
      max_connections: count(10_000, 1_000_000).describe('Open client connections'),
      max_connections_per_address: count(1000, 1_000_000).describe('Open connections of one client address'),
      max_streams_per_connection: count(128, 10_000).describe(
        'HTTP/2 streams open at once on one connection',
      ),
      drain_timeout_ms: count(20 * SECOND_MS, HOUR_MS).describe(
        'At shutdown, how long requests in flight may take to finish',
      ),
    })
    .prefault({}),
  mcp: z
    .strictObject({
      access: z
        .enum(['authenticated', 'public'])
        .default('authenticated')
        .describe(
          'public opens the handshake, echo and health_check to anyone, on every surface, and nothing else',
        ),
      hosts: hostnames(parseHostnamePattern, 'a hostname such as app.example.com, or *.example.com')
        .default([])
        .describe('Hostnames that answer at /mcp; empty: every served hostname'),
      confirm: z
        .enum(['when-possible', 'always', 'never'])
        .default('when-possible')
        .describe('When a person is asked before a destructive call'),
      taint: z
        .enum(['oauth', 'all', 'off'])
        .default('oauth')
        .describe(
          'Whose destructive calls need a yes after text of strangers was read: OAuth clients, API tokens over MCP as well, nobody',
        ),
      strict_accept: z
        .boolean()
        .default(false)
        .describe('Refuse legacy requests that do not accept both JSON and event streams'),
      toolsets: z
        .array(z.enum(toolsets))
        .max(toolsets.length)
        .default([...toolsets])
        .describe('Groups of tools that are served'),
      read_only: z.boolean().default(false).describe('Serve reading tools only'),
      allowed_origins: z
        .array(z.string().check(faultOf(originFault)))
        .max(MAX_LIST)
        .default([])
        .describe('Further web origins that may call /mcp from a browser, such as https://app.example.com'),
      session_idle_ms: z
        .int()
        .min(SECOND_MS)
        .max(90 * 24 * HOUR_MS)
        .default(24 * HOUR_MS)
        .describe('A session unused this long ends'),
      max_sessions: count(10_000, 1_000_000).describe(
        'Sessions in total; those without a credential make room first',
      ),
      max_sessions_per_principal: count(100, 100_000).describe(
        'Sessions of one principal, without a credential of one client network; the longest unused makes room',
      ),
      max_event_streams: count(2000, 100_000).describe('Open event streams'),
      max_event_streams_per_principal: count(200, 100_000).describe(
        'Open event streams of one principal; without a credential, of one client network',
      ),
      calls_per_minute: count(1200, 10_000_000).describe('Requests per principal and minute'),
      calls_per_minute_per_address: count(3000, 10_000_000).describe(
        'Requests per client address and minute',
      ),
      failures_per_minute_per_address: count(60, 10_000_000).describe(
        'Refused credentials per client address and minute; valid ones still open',
      ),
    })
    .prefault({}),
  oauth: z
    .strictObject({
      client_registration: z
        .boolean()
        .default(true)
        .describe('Let clients register themselves (RFC 7591); Claude, ChatGPT and Cursor do'),
      client_metadata: z
        .boolean()
        .default(true)
        .describe('Take an https URL as a client id and fetch what it says of itself'),
      private_client_hosts: hostnames(parseHostname, 'a hostname such as clients.example.internal')
        .default([])
        .describe(
          'Hostnames of your own network that client ids may be fetched from; others have to be public',
        ),
      upstreams: upstreamList,
    })
    .prefault({}),
  acme: acmeSchema,
  ...dnsSettingsShape,
  alerts: alertsSchema,
  metrics: metricsSchema,
  telemetry: telemetrySchema,
  commands: z
    .strictObject({
      mode: z
        .enum(['off', 'allow-list', 'any'])
        .default('allow-list')
        .describe('Which programs run_command may start; never through a shell'),
      allow: z
        .array(
          z.strictObject({
            program: z
              .string()
              .max(200)
              .check(faultOf(programFault))
              .describe('Name of the program, looked up in a fixed PATH'),
            arguments: z
              .array(pattern)
              .max(100)
              .default([])
              .describe('Regular expression for each argument, in order, whole match'),
            rest: pattern.optional().describe('Regular expression for every further argument; absent: none'),
          }),
        )
        .max(MAX_LIST)
        .optional()
        .describe('Replaces the built-in list of read-only diagnostics'),
      templates: templatesSchema,
      timeout_ms: count(30 * SECOND_MS, HOUR_MS).describe('A command that runs longer is ended'),
      max_output_bytes: z
        .int()
        .min(KIB)
        .max(16 * MIB)
        .default(64 * KIB)
        .describe('Output that is returned; the rest is counted'),
    })
    .prefault({}),
  docker: dockerSchema,
  broker: brokerSchema,
  services: policySchema,
});

export type Config = z.output<typeof configSchema>;

/** Environment variable → key. A variable wins over the file. */
export const environmentKeys = {
  OHP_DATA_DIR: 'data_dir',
  OHP_BIND: 'bind',
  OHP_HTTP_PORT: 'http_port',
  OHP_HTTPS_PORT: 'https_port',
  OHP_ADMIN_TOKEN: 'admin_token',
  OHP_MASTER_KEY: 'master_key',
  OHP_LOG_LEVEL: 'log.level',
  OHP_PUBLIC_URL: 'control.public_url',
  OHP_DOCKER_SOCKET: 'docker.socket',
  OHP_BROKER_SOCKET: 'broker.socket',
  OHP_METRICS_LISTEN: 'metrics.listen',
  OHP_ACME_DIRECTORY: 'acme.directory',
  OHP_ACME_EMAIL: 'acme.email',
  OHP_ACME_CA_FILE: 'acme.ca_file',
  ...telemetryVariables,
} as const;
