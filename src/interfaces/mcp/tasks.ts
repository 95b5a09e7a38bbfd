/**
 * Calls that run as tasks: what may take long (`Operation.task`), for clients that declare the extension. The client is
 * answered once the task is in the store, and asks for its end by its id, which is of use to its principal only. What
 * came of a call is in the store; the call itself is in this process, so that a task of a process that is gone has
 * failed, and says how to go on. Polling only. Called by `sdk-server.ts`, in the modern era.
 * @see {@link https://modelcontextprotocol.io/seps/2663-tasks-extension | SEP-2663}
 */
import {
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
} from '@modelcontextprotocol/server';
import type { Clock, Timer } from '../../core/clock.ts';
import { HOUR, MINUTE, SECOND } from '../../core/clock.ts';
import { mayRun, type Dispatch } from '../../core/dispatch.ts';
import { messageOf } from '../../core/errors.ts';
import { newId } from '../../core/ids.ts';
import { isConfined, mayTouch } from '../../core/principal.ts';
import { callerOf, callTool, type Scope, targetOf } from './calls.ts';
import { askingBy } from './confirm.ts';
import { isRecord } from './message.ts';
import { toObject, type ToolResult } from './results.ts';
import type { McpOptions, McpSettings } from './settings.ts';
import type { SettledStatus, StoredTask, TaskStore } from './task-store.ts';

export const TASKS = 'io.modelcontextprotocol/tasks';
export const TASK_METHODS = ['tasks/get', 'tasks/update', 'tasks/cancel'] as const;
export type TaskMethod = (typeof TASK_METHODS)[number];

const TTL_MS = HOUR;
const POLL_MS = 2 * SECOND;
/** Of one principal, the ended ones included until they expire; what is more runs while its caller waits. */
const MAX_PER_PRINCIPAL = 100;
const SWEEP_EVERY_MS = 10 * MINUTE;

export interface TasksOptions {
  readonly tasks: TaskStore;
  readonly dispatch: Dispatch;
  readonly clock: Clock;
  readonly settings: Pick<McpSettings, 'confirm'>;
  readonly taint?: McpOptions['taint'];
}

interface Running {
  readonly principalId: string;
  readonly stop: AbortController;
  ended: Promise<void>;
  message: string | undefined;
}

type Call = Parameters<typeof callTool>[2];
type Wire = Record<string, unknown>;

/** Whether the client says of this request that it can follow tasks. */
export const declaresTasks = (capabilities: unknown): boolean =>
  isRecord(capabilities) && isRecord(capabilities.extensions) && isRecord(capabilities.extensions[TASKS]);

export class Tasks implements AsyncDisposable {
  readonly #options: TasksOptions;
  readonly #report: (error: Error) => void;
  readonly #running = new Map<string, Running>();
  readonly #timer: Timer;

  constructor(options: TasksOptions, report: (error: Error) => void) {
    this.#options = options;
    this.#report = report;
    this.#timer = options.clock.every(SWEEP_EVERY_MS, () => {
      options.tasks.sweep(options.clock.now()).catch((cause: unknown) => this.#fault(cause));
    });
  }

  /** The task as the call is answered with it; undefined when it is one that is answered with its result. */
  async begin(scope: Scope, call: Call): Promise<Wire | undefined> {
    const { tasks, clock } = this.#options;
    const operation = scope.takesTasks ? targetOf(scope, call) : undefined;
    // Who may not is told so by HTTP, and so are others whose call goes no further.
    if (operation?.task !== true || !mayRun(operation, scope.principal)) return undefined;
    // A person is asked first, or the client is told that nobody can be.
    if (this.#options.taint?.holding(operation, callerOf(scope))) return undefined;
    const now = clock.now();
    const id = newId('tsk');
    const { id: principalId, hostnames } = scope.principal;
    const needs = { operation: operation.name, hostnames };
    const row = { id, principalId, needs, createdAt: now, expiresAt: now + TTL_MS };
    if (!(await tasks.create(row, MAX_PER_PRINCIPAL))) return undefined;
    this.#run(id, scope, call);
    return { resultType: 'task', ...wireOf({ ...row, status: 'working', updatedAt: now }) };
  }

  /** @throws ProtocolError for a task that its caller has not, MissingRequiredClientCapabilityError */
  async answer(method: TaskMethod, taskId: string, scope: Scope): Promise<Wire> {
    if (!scope.takesTasks)
      throw new MissingRequiredClientCapabilityError({
        requiredCapabilities: { extensions: { [TASKS]: {} } },
      });
    const task = await this.#find(taskId, scope);
    if (method === 'tasks/get') return this.#told(task, scope);
    // No task of ours asks anything, so an update answers nothing; what is over stays as it ended.
    if (method === 'tasks/cancel') await this.#cancel(task);
    return {};
  }

  /** For a credential that is gone. */
  stopOf(principalId: string): void {
    for (const running of this.#running.values())
      if (running.principalId === principalId) running.stop.abort();
  }

  /** What runs is told to stop, and what came of it is kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer.cancel();
    for (const { stop } of this.#running.values()) stop.abort();
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }

  #run(id: string, scope: Scope, call: Call): void {
    const { dispatch, settings } = this.#options;
    const stop = new AbortController();
    const running: Running = {
      principalId: scope.principal.id,
      stop,
      ended: Promise.resolve(),
      message: undefined,
    };
    this.#running.set(id, running);
    // The record of the request that began it is written by then.
    running.ended = callTool(dispatch, { ...scope, facts: { ...scope.facts } }, call, {
      signal: stop.signal,
      progress: ({ message }) => void (running.message = message ?? running.message),
      ...askingBy(settings.confirm, undefined),
    })
      .then((done) => this.#settle(id, done))
      .catch((cause: unknown) => this.#fault(cause))
      .finally(() => this.#running.delete(id));
  }

  /** A tool that failed has completed, with the error as its result; what is a fault of ours is none of the tool's. */
  #settle(id: string, done: ToolResult): Promise<void> {
    if (done.error?.code !== 'INTERNAL') return this.#end(id, 'completed', JSON.stringify(toObject(done)));
    const error = { code: ProtocolErrorCode.InternalError, message: done.texts.join('\n') };
    return this.#end(id, 'failed', JSON.stringify(error));
  }

  #end(id: string, status: SettledStatus, result?: string): Promise<void> {
    const { tasks, clock } = this.#options;
    return tasks.settle(id, { status, result, now: clock.now() });
  }

  async #cancel({ id, status }: StoredTask): Promise<void> {
    if (status !== 'working') return;
    await this.#end(id, 'cancelled');
    this.#running.get(id)?.stop.abort();
  }

  async #find(id: string, scope: Scope): Promise<StoredTask> {
    const { tasks, clock } = this.#options;
    const task = await tasks.find(id);
    const isOwn = task?.principalId === scope.principal.id && task.expiresAt > clock.now();
    if (isOwn && mayStill(scope, task.needs)) return task;
    throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'taskId: there is no such task');
  }

  /** Whoever is given what came of a call, or how far it is, reads it now, however long ago it was written. */
  async #told(task: StoredTask, scope: Scope): Promise<Wire> {
    const detail = await this.#detailOf(task);
    const operation = task.needs && scope.view.operations.get(task.needs.operation);
    const isBare = !('statusMessage' in detail || 'result' in detail || 'error' in detail);
    const { taint } = this.#options;
    if (!operation || !taint || isBare) return detail;
    return taint.reading(operation, callerOf(scope), Promise.resolve(detail));
  }

  async #detailOf(found: StoredTask): Promise<Wire> {
    const running = this.#running.get(found.id);
    // It may have ended since it was read.
    const again =
      found.status === 'working' && !running ? await this.#options.tasks.find(found.id) : undefined;
    const task = again ?? found;
    if (task.status === 'working' && !running)
      return { ...wireOf({ ...task, status: 'failed' }), error: INTERRUPTED };
    const message = task.status === 'working' ? running?.message : undefined;
    const result: unknown = task.result === undefined ? undefined : JSON.parse(task.result);
    return {
      ...wireOf(task),
      ...(message !== undefined && { statusMessage: message }),
      ...(result !== undefined && { [task.status === 'failed' ? 'error' : 'result']: result }),
    };
  }

  #fault(cause: unknown): void {
    this.#report(new Error(messageOf(cause), { cause }));
  }
}

/** The same principal may have less by now, as by a token with fewer scopes: then what came of the call is not for it. */
function mayStill({ principal, view }: Scope, needs: StoredTask['needs']): boolean {
  const operation = needs && view.operations.get(needs.operation);
  if (!operation || !mayRun(operation, principal)) return false;
  if (!isConfined(principal)) return true;
  return needs.hostnames?.every((hostname) => mayTouch(principal, hostname)) === true;
}

const INTERRUPTED = {
  code: ProtocolErrorCode.InternalError,
  message:
    'the server was stopped while this ran, or could not keep its result, and what came of it is not known here; what it had begun goes on by itself: look at how it stands before you repeat the call',
};

const wireOf = ({
  id,
  status,
  createdAt,
  updatedAt,
  expiresAt,
}: Omit<StoredTask, 'principalId' | 'needs' | 'result'>): Wire => ({
  taskId: id,
  status,
  createdAt: new Date(createdAt).toISOString(),
  lastUpdatedAt: new Date(updatedAt).toISOString(),
  ttlMs: expiresAt - createdAt,
  pollIntervalMs: POLL_MS,
});
