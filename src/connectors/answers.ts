/** Reading answers: members of JSON that a stranger wrote, and what an unexpected status means. */
import { cleanText } from '../core/untrusted.ts';
import { type Finding, isTargets, quoted, type Subject } from './step.ts';
import type { Answered } from './wire.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const textIn = (object: JsonObject, name: string): string | undefined => {
  const value = object[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
};

export const listIn = (object: JsonObject, name: string): readonly string[] | undefined => {
  const value = object[name];
  return Array.isArray(value) && value.every((one) => typeof one === 'string') ? value : undefined;
};

/** Clients check documents with schemas that know absent members and not null ones. */
export const nullsIn = (object: JsonObject): readonly string[] =>
  Object.entries(object).flatMap(([name, value]) => (value === null ? [cleanText(name, MAX_NAME)] : []));
const MAX_NAME = 40;

/** `error` of RFC 6749 §5.2, with what is said of it. */
export function faultIn({ json, status }: Answered): string {
  const error = isObject(json) ? textIn(json, 'error') : undefined;
  const why = isObject(json) ? textIn(json, 'error_description') : undefined;
  return [`${status}`, error && quoted(error), why && quoted(why)].filter(Boolean).join(' ');
}

const GATEWAY_FAULTS: ReadonlySet<number> = new Set([502, 503, 504]);

/** Of an answer that is not the one that a step is about. */
export function unexpected(subject: Subject, answered: Answered, requested: string): Finding {
  const { status } = answered;
  const failed = { status: 'failed', requested } as const;
  const trace = traceOf(answered);
  if (status === 429)
    return {
      status: 'skipped',
      requested,
      found: '429: this process has asked too often',
      remedy: 'Ask again in a minute',
      ends: true,
    };
  if (GATEWAY_FAULTS.has(status))
    return {
      ...failed,
      found: `${status}: the target does not answer${trace}`,
      remedy: 'Start the target, or correct target_url with update_proxy',
    };
  if (status >= 300 && status < 400)
    return {
      ...failed,
      found: `${status} to ${quoted(answered.headers.location ?? '')}: clients lose their credential on the way`,
      remedy: 'Give the client the URL that it ends at',
    };
  if (status === 404 || status === 405)
    return { ...failed, found: `${status}: no MCP endpoint is there${trace}`, remedy: noEndpoint(subject) };
  const whose = isTargets(subject) ? 'the target' : 'this system';
  return {
    ...failed,
    found: `${status} from ${whose}, which no client expects here${trace}`,
    remedy: 'get_logs with this trace id says what happened',
  };
}

const traceOf = ({ headers }: Answered): string => {
  const id = headers['x-trace-id'];
  return typeof id === 'string' ? ` (trace id ${cleanText(id, MAX_NAME)})` : '';
};

function noEndpoint({ route, url }: Subject): string {
  const isShadowed = /^\/mcp\/?$/.test(url.pathname) && route.outcome === 'forward';
  return isShadowed
    ? `At ${url.pathname} the target answers, because serve_mcp of the proxy is false (or mcp.hosts leaves the hostname out): correct the path, or set serve_mcp to true for the tools of this system`
    : 'Correct the path: the target has no MCP endpoint there';
}
