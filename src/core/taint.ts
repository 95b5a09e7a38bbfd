/**
 * The taint rule: once a client that may be a model's has been given text that strangers wrote, what it then changes or
 * deletes needs a yes of a person to exactly that call. What was read may hold instructions, and nothing tells whether
 * the next call is the person's wish or the stranger's. Kept per principal, not per session: a conversation goes on in
 * a new one. Not the gate (what a credential may do is decided elsewhere) and not the asking, which is its surface's.
 * Called by `dispatch`; made by `app.ts`; docs/decisions/0045-taint.md.
 */
import type { Reason } from './asks.ts';
import { type Clock, HOUR, MINUTE } from './clock.ts';
import { messageOf, toAppError } from './errors.ts';
import { type AnyOperation, isHeldAfterReading, type OperationContext } from './operation.ts';
import { CLI_CLIENT_ID } from './own-client.ts';
import type { Log } from './record.ts';
import { quotesStrangers } from './untrusted.ts';

/** Setting `mcp.taint`: whose reading counts. */
export type TaintMode = 'oauth' | 'all' | 'off';

export interface UntrustedRead {
  readonly principalId: string;
  /** What was read with, last. */
  readonly operation: string;
  /** When the reading began that has not been over since. */
  readonly since: number;
  /** When it was read, last. */
  readonly at: number;
}

/** Port: what was read, so that a restart forgets none of it. */
export interface UntrustedReads {
  /** Read at this time or later, at most `limit`. */
  load(from: number, limit: number): Promise<readonly UntrustedRead[]>;
  save(read: UntrustedRead): Promise<void>;
  /** Forgets what was read before this time. */
  sweep(before: number): Promise<void>;
}

/** How long after the last reading a person is asked. */
export const TAINT_MS = HOUR;
/** A reading is written at most so often for each; what comes back after a restart is taken for as much younger. */
const SAVE_EVERY_MS = 5 * MINUTE;
/** Principals remembered at once. With more than that, all of them have read something. */
export const MAX_READERS = 10_000;

type Caller = Pick<OperationContext, 'principal' | 'surface' | 'isEntailed'>;

interface Entry {
  read: UntrustedRead;
  savedAt: number;
  saved: Promise<void>;
}

export interface TaintOptions {
  readonly mode: TaintMode;
  readonly store: UntrustedReads;
  readonly clock: Clock;
  readonly log: Log;
}

export class Taint {
  readonly #options: TaintOptions;
  readonly #entries = new Map<string, Entry>();
  /** Set when there was no room: until then nobody is known to have read nothing. */
  #fullUntil = 0;
  /** When that began: a yes is for as long as it lasts. */
  #fullSince = 0;

  constructor(options: TaintOptions) {
    this.#options = options;
  }

  /** Before the first call is served. */
  async load(): Promise<void> {
    if (this.#options.mode === 'off') return;
    const now = this.#options.clock.now();
    const found = await this.#options.store.load(now - TAINT_MS - SAVE_EVERY_MS, MAX_READERS + 1);
    for (const read of found) {
      const at = Math.min(now, read.at + SAVE_EVERY_MS);
      this.#keep({ ...read, at }, Promise.resolve());
    }
  }

  /** What was read, when the call is one that a person has to say yes to because of it. */
  holding(operation: AnyOperation, caller: Caller): UntrustedRead | undefined {
    if (!isHeldAfterReading(operation) && operation.confirm === undefined) return undefined;
    return caller.isEntailed === true ? undefined : this.#readBy(caller);
  }

  /** Settles as `result` does; by then it is known, and written, that the caller has read what is in it. */
  async reading<Result>(operation: AnyOperation, caller: Caller, result: Promise<Result>): Promise<Result> {
    try {
      const read = await result;
      if (operation.untrusted === true) await this.#note(operation, caller);
      return read;
    } catch (cause) {
      const error = toAppError(cause);
      // Of what was cancelled, parts have been told as progress.
      const isTold = error.code === 'CANCELLED' && operation.untrusted === true;
      if (isTold || quotesStrangers(error, operation)) await this.#note(operation, caller);
      throw cause;
    }
  }

  /** `progress` of the caller: what it is told there it has read, whenever the call ends. */
  telling(
    operation: AnyOperation,
    caller: Caller & Pick<OperationContext, 'progress'>,
  ): OperationContext['progress'] {
    const { progress } = caller;
    if (!progress || operation.untrusted !== true) return progress;
    return (update) => {
      void this.#note(operation, caller); // It never fails; `reading` waits for what it writes.
      progress(update);
    };
  }

  async sweep(): Promise<void> {
    const now = this.#options.clock.now();
    this.#forget(now);
    await this.#options.store.sweep(now - TAINT_MS - SAVE_EVERY_MS);
  }

  #readBy({ principal, surface }: Caller): UntrustedRead | undefined {
    if (!counts(this.#options.mode, principal, surface)) return undefined;
    const now = this.#options.clock.now();
    const known = this.#entries.get(principal.id)?.read;
    if (known && isRecent(known, now)) return known;
    if (this.#fullUntil <= now) return undefined;
    const [since, at] = [this.#fullSince, this.#fullUntil - TAINT_MS];
    return { principalId: principal.id, operation: 'another operation', since, at };
  }

  async #note({ name }: AnyOperation, { principal, surface }: Caller): Promise<void> {
    const { mode, clock, store, log } = this.#options;
    if (!counts(mode, principal, surface)) return;
    const now = clock.now();
    const entry = this.#entries.get(principal.id);
    const isOn = entry !== undefined && isRecent(entry.read, now);
    const read = {
      principalId: principal.id,
      operation: name,
      since: isOn ? entry.read.since : now,
      at: now,
    };
    if (isOn && now - entry.savedAt < SAVE_EVERY_MS) {
      entry.read = read;
      return entry.saved;
    }
    // A disk that is full is what somebody reads the log for: it is held back as it is, and a restart is told of less.
    const saved = store.save(read).catch((cause: unknown) => {
      const message = `what ${principal.name} has read is not kept over a restart: ${messageOf(cause)}`;
      log.write({ time: now, kind: 'system', level: 'warn', component: 'mcp', message });
    });
    this.#keep(read, saved);
    return saved;
  }

  #keep(read: UntrustedRead, saved: Promise<void>): void {
    const { clock } = this.#options;
    if (this.#entries.size >= MAX_READERS && !this.#entries.has(read.principalId)) this.#forget(clock.now());
    if (this.#entries.size >= MAX_READERS && !this.#entries.has(read.principalId)) this.#fill(read.at);
    else this.#entries.set(read.principalId, { read, savedAt: read.at, saved });
  }

  #fill(at: number): void {
    if (this.#fullUntil <= at) this.#fullSince = at;
    this.#fullUntil = Math.max(this.#fullUntil, at + TAINT_MS);
  }

  #forget(now: number): void {
    for (const [id, { read }] of this.#entries) if (!isRecent(read, now)) this.#entries.delete(id);
  }
}

const isRecent = ({ at }: UntrustedRead, now: number): boolean => at + TAINT_MS > now;

/**
 * By OAuth a person lets a client act for them, and it may be a model's on every surface: its token for `/mcp` is good
 * for REST as well. The command line is the person. An API token is its owner's program, whose calls over MCP count
 * where the setting says so.
 */
function counts(mode: TaintMode, { kind, oauth }: Caller['principal'], surface: Caller['surface']): boolean {
  if (mode === 'off' || kind === 'anonymous' || kind === 'system') return false;
  if (surface === 'mcp') return mode === 'all' || oauth !== undefined;
  return oauth?.userId !== undefined && oauth.clientId !== CLI_CLIENT_ID;
}

/** Said beside what is asked. */
export const taintNotice = ({ operation }: UntrustedRead): string =>
  `Asked because this client has read text that strangers wrote (${operation}), which may hold instructions: agree only if you want this yourself.`;

/** For who can't be asked. */
export function taintReason({ name }: AnyOperation, { operation, at }: UntrustedRead): Reason {
  const until = new Date(at + TAINT_MS).toISOString();
  return {
    why: `${name} has to be confirmed by a person: this client has read text that strangers wrote (${operation}), which may hold instructions, and nobody can be asked through it, as it offers no elicitation here`,
    otherwise: `Otherwise: a person runs it with the command line, you wait until ${until}, or mcp.taint is set to off`,
    details: { reason: 'untrusted_text_read', read_by: operation, until },
  };
}
