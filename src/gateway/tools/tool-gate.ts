/**
 * The rules for tools on one request to an MCP server behind a proxy: what its caller may use and see, its session, and
 * what became of its calls. Made by `steps/authorise-tools.ts`; asked by the relay of the reply.
 */
import type { ErrorCode } from '../../core/errors.ts';
import type { McpPolicy, OAuthPolicy } from '../../proxies/auth-policy.ts';
import { decideTool, type ToolDecision } from '../../proxies/mcp-policy.ts';
import type { OpenSpan } from '../../core/spans.ts';
import type { FieldRecord } from '../headers.ts';
import { SESSION_FIELD } from '../sessions.ts';
import { parentIn } from '../trace.ts';
import type { Transit } from '../transit.ts';
import { recordCall } from './call-record.ts';
import { isRecord, type Messages, type ToolCall } from './messages.ts';
import { markedSession, unmarkedSession } from './session-mark.ts';

/** A part of a stream, or one that is compressed, could not be looked into. */
const NOT_FORWARDED: ReadonlySet<string> = new Set([SESSION_FIELD, 'accept-encoding', 'range', 'if-range']);
const FIRST_ERROR = 400;

interface PassedCall extends ToolCall {
  readonly span: OpenSpan | undefined;
  /** What the target said; undefined: nothing that was seen. */
  result: { readonly outcome: ErrorCode | 'OK'; readonly result: string } | undefined;
}

export class ToolGate {
  readonly #transit: Transit;
  #auth: OAuthPolicy;
  #rules: McpPolicy;
  #passed: readonly PassedCall[] = [];
  #session: string | undefined;
  asksForList = false;

  constructor(transit: Transit, auth: OAuthPolicy, rules: McpPolicy) {
    this.#transit = transit;
    this.#auth = auth;
    this.#rules = rules;
  }

  get auth(): OAuthPolicy {
    return this.#auth;
  }

  /** As the target gave it, but for the mark of which target that is. */
  get session(): string | undefined {
    return this.#session;
  }

  decide(name: unknown): ToolDecision {
    const { core, principal } = this.#transit;
    return decideTool(this.#rules, name, {
      isNamedIn: (allow) => core.protection.names(allow, principal),
      lacks: (scopes) => core.protection.lacksScopes(this.#auth, principal, scopes),
    });
  }

  /** One that more scopes would open is shown: else no client would ever ask for them. */
  readonly isShown = (name: unknown): boolean => this.decide(name).kind !== 'hidden';

  /** Other rules from now on, for what is still to come on a stream. False: a call that is under way is not allowed by them. */
  follow(auth: OAuthPolicy, rules: McpPolicy): boolean {
    this.#auth = auth;
    this.#rules = rules;
    return this.#passed.every(({ name }) => this.decide(name).kind === 'allowed');
  }

  /** False: the request names a session that is not its principal's. */
  takeSession(): boolean {
    const marked = this.#transit.headers[SESSION_FIELD];
    if (marked === undefined) return true;
    this.#session = typeof marked === 'string' ? unmarkedSession(this.#transit, marked) : undefined;
    return this.#session !== undefined;
  }

  /** Header of the request to the target: name, value, name, value. */
  toTarget(headers: readonly string[]): string[] {
    const result: string[] = [];
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i] ?? '';
      if (!NOT_FORWARDED.has(name.toLowerCase())) result.push(name, headers[i + 1] ?? '');
    }
    result.push('accept-encoding', 'identity');
    const session = this.#transit.session ?? this.#session;
    if (session !== undefined) result.push(SESSION_FIELD, session);
    return result;
  }

  /** Header of the reply. @throws when its session id is none. */
  toClient(fields: FieldRecord): FieldRecord {
    const id = fields[SESSION_FIELD];
    if (id === undefined) return fields;
    if (typeof id !== 'string') throw new Error('there is more than one session id');
    return { ...fields, [SESSION_FIELD]: markedSession(this.#transit, id) };
  }

  /** The calls are on their way to the target. */
  pass({ calls, asksForList }: Messages): void {
    this.asksForList = asksForList;
    const parent = parentIn(this.#transit);
    this.#passed = calls.map((call) => ({ ...call, span: parent?.child(), result: undefined }));
  }

  get awaitsResults(): boolean {
    return this.#passed.some(({ id, result }) => id !== undefined && result === undefined);
  }

  /** A message of the target, or a batch of them: the results of calls are among them. */
  hear(value: unknown): void {
    const parts: readonly unknown[] = Array.isArray(value) ? value : [value];
    for (const part of parts) {
      if (!isRecord(part) || part.method !== undefined) continue;
      const call = this.#passed.find(({ id, result }) => id === part.id && result === undefined);
      if (call) call.result = resultOf(part);
    }
  }

  /** Once, when the request is over. */
  finish(): void {
    for (const call of this.#passed) recordCall(this.#transit, call, call.result ?? this.#byStatus());
  }

  #byStatus() {
    const { status, outcome } = this.#transit;
    const isGood = outcome === 'OK' && status < FIRST_ERROR;
    const failure = outcome === 'OK' ? 'UPSTREAM_FAILED' : outcome;
    return { outcome: isGood ? 'OK' : failure, result: `HTTP ${status}` } as const;
  }
}

function resultOf({ result, error }: Readonly<Record<string, unknown>>) {
  if (isRecord(error)) {
    const code = typeof error.code === 'number' ? error.code : 'without a code';
    return { outcome: 'UPSTREAM_FAILED', result: `error ${code}` } as const;
  }
  return isRecord(result) && result.isError === true
    ? ({ outcome: 'UPSTREAM_FAILED', result: 'isError' } as const)
    : ({ outcome: 'OK', result: 'result' } as const);
}
