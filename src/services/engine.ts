/** Port: the container engine. One adapter per engine, one contract suite for all of them (`engine.contract.ts`). */

export interface PublishedPort {
  containerPort: number;
  protocol: string;
  /** Absent when the port is not published on the host. */
  hostAddress?: string | undefined;
  hostPort?: number | undefined;
}

/** As the engine tells it: every text in it may come from who made the image or the container. */
export interface Container {
  id: string;
  /** Without the leading slash; the first is the one it is known by. */
  names: readonly string[];
  image: string;
  /** `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`. */
  state: string;
  /** For people: `Up 2 hours`. */
  status: string;
  ports: readonly PublishedPort[];
  /** Milliseconds since 1970. */
  createdAt: number;
}

/** `connected: false`: none is there for this process; `reason` says how to connect one. */
export type EngineState = { connected: true; version: string } | { connected: false; reason: string };

export interface ContainerEngine {
  /** @throws AppError UNAVAILABLE when one is there but does not answer, UPSTREAM_FAILED when it answers wrongly. */
  ping(): Promise<EngineState>;
  /**
   * @param options.all also those that do not run
   * @throws AppError UNAVAILABLE (also when none is connected) or UPSTREAM_FAILED
   */
  listContainers(options: { all: boolean }): Promise<readonly Container[]>;
}
