/** What the log is told of a request: what was asked and what came of it. Never arguments, never a session id. */
import type { Told } from '../../core/exchange.ts';
import { mcpMethods } from '../../core/mcp-methods.ts';
import { cleanText } from '../../core/untrusted.ts';
import { isRecord } from './message.ts';
import { CLIENT_NAME_CHARACTERS } from './settings.ts';

/** Filled in while a request is served. */
export interface Facts {
  method: string;
  tool?: string | undefined;
  era?: 'modern' | 'legacy' | undefined;
  /** Hash of the session's id. */
  session?: string | undefined;
  client?: string | undefined;
  /** `OK` or an error code. */
  outcome: string;
}

export const methodName = (method: string): string =>
  mcpMethods.has(method) ? method : cleanText(method, CLIENT_NAME_CHARACTERS);

/** `name/version` as the client gave it, safe to print. */
export function clientName(info: unknown): string | undefined {
  if (!isRecord(info) || typeof info.name !== 'string') return undefined;
  const version = typeof info.version === 'string' ? info.version : '';
  return cleanText(`${info.name}/${version}`, CLIENT_NAME_CHARACTERS);
}

export const toldOf = ({ method, tool, era, session, client, outcome }: Facts): Told => ({
  kind: 'mcp',
  component: 'mcp',
  operation: tool ?? method,
  outcome,
  detail: { method, tool, era, session, client },
});
