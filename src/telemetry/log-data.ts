/** Records of the log as the SDK takes them: what the log keeps, redacted as the log redacts it. */
import { type Attributes, type LogRecord as OtelRecord, SeverityNumber } from '@opentelemetry/api';
import { isSuspicious, redact, redactText } from '../core/redact.ts';
import type { LogLevel, LogRecord } from '../core/record.ts';

const severities: Readonly<Record<LogLevel, SeverityNumber>> = {
  debug: SeverityNumber.DEBUG,
  info: SeverityNumber.INFO,
  warn: SeverityNumber.WARN,
  error: SeverityNumber.ERROR,
};
const MAX_TEXT = 2048;
const MAX_DETAIL = 8192;

/** Without its time and its trace, which the SDK takes otherwise. */
export function logData(record: LogRecord): Omit<OtelRecord, 'timestamp' | 'context'> {
  const { level } = record;
  const json = jsonOf(record.detail);
  // One look at all that somebody else may have written: nearly always there is nothing to redact.
  const { message, hostname, method, path, user_agent, operation } = record;
  const isClean = !isSuspicious(
    `${message} ${hostname} ${method} ${path} ${user_agent} ${operation} ${json}`,
  );
  const told = isClean ? record : redacted(record);
  return {
    severityNumber: severities[level],
    severityText: level.toUpperCase(),
    body: short(told.message),
    attributes: attributesOf(told, isClean ? json : jsonOf(told.detail)),
  };
}

function redacted(record: LogRecord): LogRecord {
  const safe = (text: string | undefined) => (text === undefined ? undefined : redactText(text));
  const { message, hostname, method, path, user_agent, operation, detail } = record;
  return {
    ...record,
    message: redactText(message),
    hostname: safe(hostname),
    method: safe(method),
    path: safe(path),
    user_agent: safe(user_agent),
    operation: safe(operation),
    // Whatever it is, it keeps its shape.
    detail: redact(detail) as LogRecord['detail'],
  };
}

function attributesOf(record: LogRecord, detail: string | undefined): Attributes {
  const attributes: Attributes = { 'ohp.kind': record.kind, 'ohp.component': record.component };
  const put = (name: string, value: string | number | undefined) => {
    if (value !== undefined) attributes[name] = typeof value === 'string' ? short(value) : value;
  };
  put('server.address', record.hostname);
  put('http.request.method', record.method);
  put('url.path', record.path);
  put('http.response.status_code', record.status);
  put('ohp.duration_ms', record.duration_ms);
  put('http.request.body.size', record.bytes_in);
  put('http.response.body.size', record.bytes_out);
  put('client.address', record.client_address);
  put('user.id', record.principal);
  put('user_agent.original', record.user_agent);
  put('ohp.operation', record.operation);
  put('ohp.outcome', record.outcome);
  // As text, as `get_logs` shows it: what is in it is different from record to record.
  if (detail !== undefined) attributes['ohp.detail'] = cut(detail, MAX_DETAIL);
  return attributes;
}

function jsonOf(detail: unknown): string | undefined {
  try {
    return JSON.stringify(detail);
  } catch {
    return undefined; // A cycle or a bigint: the log itself says that it was there.
  }
}

const cut = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length)}…` : text;
const short = (text: string): string => cut(text, MAX_TEXT);
