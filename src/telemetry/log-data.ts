/** Records of the log as the SDK takes them: what the log keeps, redacted as the log redacts it. */
import { type Attributes, type LogRecord as OtelRecord, SeverityNumber } from '@opentelemetry/api';
import { redact } from '../core/redact.ts';
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
  const { level, message, ...rest } = record;
  return {
    severityNumber: severities[level],
    severityText: level.toUpperCase(),
    body: short(String(redact(message))),
    attributes: attributesOf(rest),
  };
}

function attributesOf(record: Omit<LogRecord, 'level' | 'message'>): Attributes {
  const named = {
    'ohp.kind': record.kind,
    'ohp.component': record.component,
    'server.address': record.hostname,
    'http.request.method': record.method,
    'url.path': record.path,
    'http.response.status_code': record.status,
    'ohp.duration_ms': record.duration_ms,
    'http.request.body.size': record.bytes_in,
    'http.response.body.size': record.bytes_out,
    'client.address': record.client_address,
    'user.id': record.principal,
    'user_agent.original': record.user_agent,
    'ohp.operation': record.operation,
    'ohp.outcome': record.outcome,
    'ohp.detail': detailOf(record.detail),
  };
  const attributes: Attributes = {};
  for (const [name, value] of Object.entries(named))
    if (value !== undefined)
      attributes[name] = typeof value === 'string' ? short(String(redact(value))) : value;
  return attributes;
}

/** As text of JSON, as `get_logs` shows it: what is in it is different from record to record. */
function detailOf(detail: LogRecord['detail']): string | undefined {
  if (detail === undefined) return undefined;
  try {
    const text = JSON.stringify(redact(detail));
    return text.length > MAX_DETAIL ? `${text.slice(0, MAX_DETAIL)}…` : text;
  } catch {
    return undefined; // A cycle or a bigint: the log itself says that it was there.
  }
}

const short = (text: string): string => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
