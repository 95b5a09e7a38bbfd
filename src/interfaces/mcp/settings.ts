/** What the MCP endpoint is given, and every limit that is its own. */
import type { Server } from '@modelcontextprotocol/server';
import { MINUTE, SECOND, type Clock } from '../../core/clock.ts';
import type { Dispatch } from '../../core/dispatch.ts';
import { limits } from '../../core/limits.ts';
import type { LiveStreams } from '../../core/live-streams.ts';
import type { AnyOperation, Toolset } from '../../core/operation.ts';
import type { Log } from '../../core/record.ts';
import type { Taint } from '../../core/taint.ts';
import type { OwnHandlers } from './sdk-server.ts';
import type { SessionStore } from './session-store.ts';
import type { TaskStore } from './task-store.ts';

export interface McpSettings {
  /** When a person is asked before an operation that has a `confirm`. */
  readonly confirm: 'when-possible' | 'always' | 'never';
  /** Refuse legacy requests that do not name both media types. */
  readonly strictAccept: boolean;
  readonly toolsets: readonly Toolset[];
  readonly readOnly: boolean;
  readonly sessionIdleMs: number;
  readonly maxSessions: number;
  readonly maxSessionsPerPrincipal: number;
  readonly maxEventStreams: number;
  /** Of those, of one principal; without a credential, of one client network. */
  readonly maxEventStreamsPerPrincipal: number;
}

export interface McpOptions {
  readonly operations: readonly AnyOperation[];
  /** Whether a setting turned it off: then it is not listed, and calling it says so. Absent: nothing is off. */
  readonly isOff?: ((operation: AnyOperation) => boolean) | undefined;
  readonly dispatch: Dispatch;
  readonly clock: Clock;
  readonly log: Log;
  readonly live: LiveStreams;
  readonly sessions: SessionStore;
  readonly tasks: TaskStore;
  /** 32 bytes; signs the `requestState` of a confirmation. */
  readonly secret: Buffer;
  readonly settings: McpSettings;
  /** The one that `dispatch` has: whether a call will be asked about. */
  readonly taint?: Pick<Taint, 'holding' | 'reading'> | undefined;
  readonly version: string;
  /**
   * For the conformance suite only: adds its fixtures to every SDK server, on the same transport, sessions and gate.
   * While it is set, tools/list is answered by the SDK server, which knows the fixtures.
   */
  readonly extend?: ((server: Server, own: OwnHandlers) => void) | undefined;
}

export const MODERN_VERSION = '2026-07-28';
/** Newest first: the first is what an unknown version is offered. */
export const LEGACY_VERSIONS: readonly string[] = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05'];
/** What a request without session and version header is taken for. @see MCP 2025-06-18, Transports */
export const DEFAULT_LEGACY_VERSION = '2025-03-26';
/** What an `initialize` without a version is taken for: the default of the seed document. */
export const DEFAULT_INITIALIZE_VERSION = '2025-06-18';
/** The only version with JSON-RPC batches. */
export const BATCH_VERSION = '2025-03-26';
/** From here on an event with empty data primes a stream for resumption (SEP-1699). */
export const PRIMING_SINCE = '2025-11-25';
/** From here on a tool may have icons (SEP-973); for clients of before they would be nothing but length. */
export const ICONS_SINCE = '2025-11-25';

export const KEEP_ALIVE_MS = 15 * SECOND;
/** How long a client waits before it reconnects a stream that ended (SEP-1699). */
export const RETRY_MS = 2 * SECOND;
export const SWEEP_MS = MINUTE;
/** Events can be resumed this long. */
export const EVENTS_KEPT_MS = 10 * MINUTE;
/** An idle session leaves memory after this; the store brings it back. */
export const IN_MEMORY_IDLE_MS = 15 * MINUTE;
/** A person has this long to answer a question. */
export const ANSWER_MS = 5 * MINUTE;
/** Progress of one call is sent at most this often. */
export const PROGRESS_EVERY_MS = SECOND / 10;
/** Unsent bytes of one event stream before it is cut; the client resumes it. */
export const STREAM_BUFFER_BYTES = 1024 * 1024;
export const MAX_BATCH = 100;
export const MAX_RESULT_CHARACTERS = limits.resultCharacters;
export const LIST_TTL_MS = 30 * SECOND;
export const DISCOVER_TTL_MS = 5 * MINUTE;
export const CLIENT_NAME_CHARACTERS = 64;
/** Lists kept ready, one per set of permissions and narrowing. */
export const MAX_VIEWS = 256;
/** Events replayed at once to a client that resumes. */
export const MAX_REPLAY = 1000;
/** Characters of events waiting for the store; more are not resumable. */
export const MAX_EVENT_QUEUE_CHARACTERS = 16 * 1024 * 1024;
/** Characters of events kept for one session while events are kept; more are not resumable. */
export const MAX_SESSION_EVENT_CHARACTERS = 1024 * 1024;
/** The same for all sessions together; more than one principal may have by default. */
export const MAX_EVENT_CHARACTERS = 256 * 1024 * 1024;
/** What is kept of an initialize request, as JSON. */
export const MAX_INITIALIZE_CHARACTERS = 16 * 1024;
