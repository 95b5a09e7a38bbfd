/** Where spans, log records and metrics are sent to, besides being kept here. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { isServiceUrl } from '../core/dial.ts';
import { isOwnNetwork } from '../core/addresses.ts';
import { trustFault } from './acme.ts';

const MAX_TEXT = 500;
const MAX_URL = 2000;
const MAX_HEADERS = 8000;
const MAX_PEM = 262_144;
const MAX_ATTRIBUTES = 50;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;

const file = (what: string) => z.string().min(1).max(MAX_TEXT).optional().describe(what);
const isOn = (what: string) => z.boolean().default(true).describe(what);

/** Unencrypted only where it stays on the own network; of a name that is seen when it is connected to. */
function isEndpoint(text: string): boolean {
  if (!isServiceUrl(text)) return false;
  const { protocol, hostname, search } = new URL(text);
  const bare = hostname.replace(/^\[|\]$/g, '');
  return search === '' && (protocol === 'https:' || isIP(bare) === 0 || isOwnNetwork(bare));
}

/** Written by us for every request. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  'host',
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'connection',
]);

/**
 * `name=value,name=value`, values percent-encoded; undefined when it is nothing of the kind.
 * @see {@link https://opentelemetry.io/docs/specs/otel/protocol/exporter/ | OpenTelemetry, OTLP exporter, headers}
 */
export function pairsIn(text: string): Record<string, string> | undefined {
  const pairs: [string, string][] = [];
  for (const part of text.split(/[,\r\n]/)) {
    if (part.trim() === '') continue;
    const end = part.indexOf('=');
    const name = part.slice(0, Math.max(0, end)).trim();
    const value = decoded(part.slice(end + 1).trim());
    if (name === '' || value === undefined) return undefined;
    pairs.push([name, value]);
  }
  return Object.fromEntries(pairs);
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined; // Not percent-encoded text: whoever asks says so.
  }
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const VALUE = /^[\x20-\x7e]*$/;

/** Why a text can't be the headers; undefined when it can. */
export function headersFault(text: string): string | undefined {
  const pairs = pairsIn(text);
  const isFit =
    pairs &&
    Object.entries(pairs).every(
      ([name, value]) => TOKEN.test(name) && VALUE.test(value) && !OWN_HEADERS.has(name.toLowerCase()),
    );
  return isFit && Object.keys(pairs).length > 0
    ? undefined
    : 'has to be name=value, separated by commas or lines, values percent-encoded';
}

const otlpSchema = z
  .strictObject({
    endpoint: z
      .string()
      .max(MAX_URL)
      .refine(
        isEndpoint,
        'has to be an https URL without credentials, such as https://otlp.example.com:4318 (http only to loopback and private networks), and no link-local address',
      )
      .optional()
      .describe(
        'OpenTelemetry collector, the URL above v1/traces, v1/logs and v1/metrics; absent: nothing is sent, and nothing of OpenTelemetry is loaded',
      ),
    headers: z
      .string()
      .max(MAX_HEADERS)
      .superRefine((text, context) => {
        const fault = headersFault(text);
        if (fault !== undefined) context.addIssue(fault);
      })
      .optional()
      .meta({ secret: true })
      .describe(
        'Sent with everything: name=value, separated by commas, values percent-encoded; better: headers_file',
      ),
    headers_file: file('File that holds the headers and nothing else, one name=value on a line'),
    ca_file: file(
      'PEM file of authorities that are trusted for endpoint, in the place of those of the system',
    ),
    ca_pem: z
      .string()
      .max(MAX_PEM)
      .refine((text) => trustFault(text) === undefined, 'has to hold certificates as PEM')
      .optional()
      .describe('The same, written here'),
    protocol: z
      .literal('http/protobuf')
      .default('http/protobuf')
      .describe('OTLP over HTTP is what is spoken here'),
    traces: isOn('Send spans'),
    logs: isOn('Send log records, as the log keeps them'),
    metrics: isOn('Send metrics'),
    sampling_share: z
      .number()
      .min(0)
      .max(1)
      .default(1)
      .describe(
        'Of the traces that begin here, the share that is sent; others are sent when their caller records them',
      ),
    service_name: z
      .string()
      .min(1)
      .max(MAX_TEXT)
      .default('oauth-https-proxy')
      .describe('service.name of what is sent'),
    resource_attributes: z
      .record(z.string().min(1).max(MAX_TEXT), z.string().max(MAX_TEXT))
      .refine(
        (attributes) => Object.keys(attributes).length <= MAX_ATTRIBUTES,
        `has to be at most ${MAX_ATTRIBUTES}`,
      )
      .default({})
      .describe('Further attributes of the resource, such as deployment.environment.name'),
    timeout_ms: z
      .int()
      .min(100)
      .max(MINUTE_MS)
      .default(10 * SECOND_MS)
      .describe('For one request to endpoint; at shutdown, for all that is left, at most 5 seconds'),
    interval_ms: z
      .int()
      .min(50)
      .max(MINUTE_MS)
      .default(SECOND_MS)
      .describe('Spans and log records wait this long for others to go with'),
    metrics_interval_ms: z
      .int()
      .min(SECOND_MS)
      .max(60 * MINUTE_MS)
      .default(MINUTE_MS)
      .describe('How often metrics are sent'),
    queue_items: z
      .int()
      .min(100)
      .max(1_000_000)
      .default(10_000)
      .describe('Spans that may wait, and as many log records; more are dropped and counted'),
  })
  .check(({ value, issues }) => {
    for (const [a, b] of [
      ['headers', 'headers_file'],
      ['ca_pem', 'ca_file'],
    ] as const)
      if (value[a] !== undefined && value[b] !== undefined)
        issues.push({ code: 'custom', input: value, path: [b], message: `is one too many beside ${a}` });
  })
  .prefault({});

export const telemetrySchema = z.strictObject({ otlp: otlpSchema }).prefault({});

/** Variables of OpenTelemetry → key. They count where an endpoint is set: other programs read them as well. */
export const telemetryVariables = {
  OTEL_EXPORTER_OTLP_ENDPOINT: 'telemetry.otlp.endpoint',
  OTEL_EXPORTER_OTLP_HEADERS: 'telemetry.otlp.headers',
  OTEL_EXPORTER_OTLP_PROTOCOL: 'telemetry.otlp.protocol',
  OTEL_SERVICE_NAME: 'telemetry.otlp.service_name',
  OTEL_RESOURCE_ATTRIBUTES: 'telemetry.otlp.resource_attributes',
} as const;
