/**
 * Sessions of MCP at several targets: each stays at the one that opened it, which is the only one that knows it. The id
 * that a client is given has the mark of its target behind it. Nothing is remembered, as of cookies (`sticky.ts`). Pure.
 * @see MCP 2025-11-25, Transports, Session Management
 */
import type { FieldRecord } from './headers.ts';
import type { Plan } from './snapshot.ts';
import { MARK_LENGTH } from './sticky.ts';

export const SESSION_FIELD = 'mcp-session-id';
const SEPARATOR = '~';

export interface MarkedSession {
  /** As the target gave it. */
  readonly id: string;
  /** Undefined: of a session that was opened when there was one target. */
  readonly mark: string | undefined;
}

/** Of the id as a client has it. */
export function sessionIn(text: string): MarkedSession {
  const end = text.length - MARK_LENGTH - SEPARATOR.length;
  if (end < 1 || text[end] !== SEPARATOR) return { id: text, mark: undefined };
  return { id: text.slice(0, end), mark: text.slice(end + SEPARATOR.length) };
}

/** Fields of a reply, with the id as its client gets it. */
export function withMarkedSession(fields: FieldRecord, plan: Plan): FieldRecord {
  const { balance } = plan;
  const id = balance && fields[SESSION_FIELD];
  if (!balance || typeof id !== 'string') return fields;
  const mark = balance.group.marks[balance.plans.indexOf(plan)] ?? '';
  return { ...fields, [SESSION_FIELD]: id + SEPARATOR + mark };
}
