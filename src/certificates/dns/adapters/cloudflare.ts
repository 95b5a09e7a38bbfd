/**
 * Cloudflare, API v4: the zone by its name, then one record for each value.
 * @see {@link https://developers.cloudflare.com/api/resources/dns/subresources/records/ | DNS records}
 */
import { z } from 'zod';
import { AppError } from '../../../core/errors.ts';
import { type DnsProvider, TXT_TTL_SECONDS, type TxtRecord } from '../provider.ts';
import type { SettingsOf } from '../schema.ts';
import type { ReadSecret } from '../secret.ts';
import { type Api, call, quoted } from './api.ts';

/** Records of one name that are looked through. */
const PAGE_SIZE = 100;
/** "An identical record already exists": another process of ours was quicker. */
const IDENTICAL = new Set([81_057, 81_058]);
const UNAUTHORISED = new Set([401, 403]);
/** Of a token that can't be a token at all, the answer is 400 with one of these. */
const BAD_TOKEN = new Set([6003, 6111, 9106, 9109, 10_000]);
const NOT_FOUND = 404;

const id = z.string().regex(/^[\w-]{1,64}$/);
const envelope = z.object({
  success: z.boolean(),
  errors: z.array(z.object({ code: z.number(), message: z.string() })).default([]),
  result: z.unknown(),
});
const zoneList = z.array(z.object({ id, name: z.string() }));
const recordList = z.array(z.object({ id, type: z.string(), name: z.string(), content: z.string() }));

type Method = 'GET' | 'POST' | 'DELETE';
type Parts = Pick<Api, 'clock' | 'fetch'> & { readonly readSecret: ReadSecret };

export function createCloudflare(settings: SettingsOf<'cloudflare'>, parts: Parts): DnsProvider {
  const client = createClient(settings, parts);
  return {
    async publish(record, signal) {
      const zone = await zoneId(client, record.zone, signal);
      if ((await ownRecords(client, zone, record, signal)).length > 0) return;
      const { name, value } = record;
      const body = { type: 'TXT', name, content: `"${value}"`, ttl: TXT_TTL_SECONDS };
      const answer = await client.send('POST', `/zones/${zone}/dns_records`, signal, body);
      if (!answer.errors.some(({ code }) => IDENTICAL.has(code))) requireSuccess(answer);
    },
    async withdraw(record, signal) {
      const zone = await zoneId(client, record.zone, signal);
      for (const found of await ownRecords(client, zone, record, signal)) {
        const answer = await client.send('DELETE', `/zones/${zone}/dns_records/${found}`, signal);
        if (answer.status !== NOT_FOUND) requireSuccess(answer);
      }
    },
  };
}

type Client = ReturnType<typeof createClient>;

function createClient(settings: SettingsOf<'cloudflare'>, { clock, fetch, readSecret }: Parts) {
  const api: Api = { service: 'Cloudflare', clock, fetch };

  async function send(method: Method, path: string, signal: AbortSignal, body?: object) {
    const token = await readSecret(settings.token, 'token (Cloudflare)');
    const headers = {
      authorization: `Bearer ${token}`,
      accept: 'application/json',
      ...(body && { 'content-type': 'application/json' }),
    };
    const url = `${settings.url}${path}`;
    const request = { method, url, headers, ...(body && { body: JSON.stringify(body) }) };
    const { status, text } = await call(api, request, signal);
    return { status, ...parseAnswer(status, text) };
  }

  return {
    send,
    async read<Shape extends z.ZodType>(
      path: string,
      shape: Shape,
      signal: AbortSignal,
    ): Promise<z.output<Shape>> {
      const answer = await send('GET', path, signal);
      requireSuccess(answer);
      const parsed = shape.safeParse(answer.result);
      if (!parsed.success) throw unreadable(answer.status, parsed.error);
      return parsed.data;
    },
  };
}

async function zoneId(client: Client, zone: string, signal: AbortSignal): Promise<string> {
  const zones = await client.read(`/zones?name=${encodeURIComponent(zone)}`, zoneList, signal);
  const found = zones.find(({ name }) => name === zone);
  if (found) return found.id;
  throw new AppError(
    'UPSTREAM_FAILED',
    `the API token sees no zone ${zone} at Cloudflare; it needs Zone: Read and DNS: Edit for this zone, and the zone has to be in the account`,
  );
}

async function ownRecords(
  client: Client,
  zone: string,
  { name, value }: TxtRecord,
  signal: AbortSignal,
): Promise<string[]> {
  const query = `type=TXT&name=${encodeURIComponent(name)}&per_page=${PAGE_SIZE}`;
  const records = await client.read(`/zones/${zone}/dns_records?${query}`, recordList, signal);
  return records
    .filter((record) => record.type === 'TXT' && record.name === name && unquoted(record.content) === value)
    .map((record) => record.id);
}

/** Content of a TXT record is given with quotes or without. */
const unquoted = (content: string): string => /^"(.*)"$/s.exec(content)?.[1] ?? content;

type Envelope = z.output<typeof envelope>;

function parseAnswer(status: number, text: string): Envelope {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw unreadable(status, cause);
  }
  const parsed = envelope.safeParse(value);
  if (!parsed.success) throw unreadable(status, parsed.error);
  return parsed.data;
}

function requireSuccess({ status, success, errors }: Envelope & { status: number }): void {
  if (success) return;
  const said = errors.map(({ code, message }) => `${code} ${message}`).join('; ');
  if (UNAUTHORISED.has(status) || errors.some(({ code }) => BAD_TOKEN.has(code)))
    throw new AppError(
      'UPSTREAM_FAILED',
      `Cloudflare does not take the API token for this (${status}, ${quoted(said)}); it needs Zone: Read and DNS: Edit for the zone`,
    );
  throw new AppError('UPSTREAM_FAILED', `Cloudflare refused (${status}, ${quoted(said)})`);
}

const unreadable = (status: number, cause: unknown): AppError =>
  new AppError('UPSTREAM_FAILED', `Cloudflare answered ${status} in a form that is not its API's`, { cause });
