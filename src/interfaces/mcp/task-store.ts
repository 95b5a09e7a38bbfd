/** Port: calls that run as tasks, so that what came of them outlives the connection and the process. */
export type SettledStatus = 'completed' | 'failed' | 'cancelled';

/** What its caller had when it began; whoever has less by now reads nothing of it. */
export interface TaskNeeds {
  readonly operation: string;
  /** Undefined: confined to none. */
  readonly hostnames: readonly string[] | undefined;
}

export interface StoredTask {
  readonly id: string;
  /** Whose it is; nobody else's call finds it. */
  readonly principalId: string;
  /** Undefined: kept by a version that did not know it. */
  readonly needs: TaskNeeds | undefined;
  readonly status: 'working' | SettledStatus;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly expiresAt: number;
  /** JSON of the result once it is completed, of the error once it has failed. */
  readonly result: string | undefined;
}

export interface TaskStore {
  /** False when its principal has so many already. */
  create(
    task: Omit<StoredTask, 'status' | 'updatedAt' | 'result'>,
    maxPerPrincipal: number,
  ): Promise<boolean>;
  find(id: string): Promise<StoredTask | undefined>;
  /** The first end counts. */
  settle(id: string, end: { status: SettledStatus; result: string | undefined; now: number }): Promise<void>;
  /** Removes what has expired. */
  sweep(now: number): Promise<void>;
}
