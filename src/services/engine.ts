/**
 * Port: the container engine, in words of ours. One contract suite (`engine.contract.ts`) for what stands in front of
 * Docker, Podman, the broker and the fake. Who asks takes `ContainerEngine`, behind which the policy always stands; a
 * `ContainerDriver` is what an engine can do, and only the broker's code has one.
 *
 * Errors of every verb: AppError UNAVAILABLE (none is connected, or it does not answer), UPSTREAM_FAILED (it answers what
 * is not understood, or fails), TIMEOUT, NOT_FOUND, CONFLICT (the name is taken, it is in use), FORBIDDEN (not made here
 * and not adopted), INVALID_INPUT (`details.faults` is a list of `PolicyFault` when the policy says no).
 */
import type { z } from 'zod';
import type * as schema from './engine.schema.ts';

export type ContainerSpec = z.input<typeof schema.containerSpecSchema>;
/** With every default in it. */
export type ParsedSpec = z.output<typeof schema.containerSpecSchema>;
export type ContainerPlan = z.output<typeof schema.containerPlanSchema>;
export type Container = z.output<typeof schema.containerSchema>;

export type ContainerDetails = z.output<typeof schema.containerDetailsSchema>;
export type Created = z.output<typeof schema.createdSchema>;
export type LogLine = z.output<typeof schema.logLineSchema>;
export type ContainerStats = z.output<typeof schema.statsSchema>;
export type PullProgress = z.output<typeof schema.pullProgressSchema>;
export type Image = z.output<typeof schema.imageSchema>;
export type ImageDetails = z.output<typeof schema.imageDetailsSchema>;
export type Network = z.output<typeof schema.networkSchema>;
export type Volume = z.output<typeof schema.volumeSchema>;
export type EngineEvent = z.output<typeof schema.eventSchema>;
/** `connected: false`: none is there for this process; `reason` says how to connect one. */
export type EngineState = z.output<typeof schema.stateSchema>;
export type NetworkSpec = z.input<typeof schema.networkSpecSchema>;
export type VolumeSpec = z.input<typeof schema.thingSchema>;
export type LogOptions = z.input<typeof schema.logOptionsSchema>;
export type StopOptions = z.input<typeof schema.stopOptionsSchema>;
export type RemoveOptions = z.input<typeof schema.removeOptionsSchema>;
export type EventOptions = z.input<typeof schema.eventOptionsSchema>;

/** One thing that the policy does not let through. */
export interface PolicyFault {
  /** Where in the specification: `mounts[0].source`. */
  where: string;
  /** What was found. */
  what: string;
  /** What may stand there. */
  allowed: string;
}

export interface Cancellable {
  /** Ends it, and the connection with it; the iteration then ends without an error. */
  signal?: AbortSignal | undefined;
}

export interface ContainerEngine {
  /** @throws AppError UNAVAILABLE when one is there but does not answer, UPSTREAM_FAILED when it answers wrongly. */
  ping(): Promise<EngineState>;
  /** @param options.all also those that do not run */
  list(options: { all: boolean }): Promise<readonly Container[]>;
  /** @param ref id or name, here and below */
  inspect(ref: string): Promise<ContainerDetails>;
  /** What the policy says of it, as `create` would; nothing is made. */
  check(spec: ContainerSpec): Promise<void>;
  /** Made, not started. NOT_FOUND when the image is not here: pull it first. CONFLICT when it is another than `imageId` says. */
  create(spec: ContainerSpec): Promise<Created>;
  /**
   * Of a swarm: what is there becomes what the specification says, one part after the other; its name stays. Done when it is begun:
   * `inspect` says how it goes. CONFLICT where the engine is none.
   */
  roll(ref: string, spec: ContainerSpec): Promise<void>;
  /**
   * Of a swarm: what is there becomes what it was before its last `roll`, with the values that its secrets had then, where that was
   * made with these labels. Answers whether it has them now; else nothing is done. CONFLICT where the engine is none.
   */
  rollBack(ref: string, labels: Readonly<Record<string, string>>): Promise<boolean>;
  /** Nothing happens to one that runs. */
  start(ref: string): Promise<void>;
  /** Asks it to end, and ends it after the time; nothing happens to one that does not run. */
  stop(ref: string, options?: StopOptions): Promise<void>;
  restart(ref: string, options?: StopOptions): Promise<void>;
  /** CONFLICT for one that runs, unless `force`. */
  remove(ref: string, options?: RemoveOptions): Promise<void>;
  /** Ends with what there is, or with the container when it follows. */
  logs(ref: string, options?: LogOptions & Cancellable): AsyncIterable<LogLine>;
  /** Of one that runs: CONFLICT otherwise. */
  stats(ref: string): Promise<ContainerStats>;
  /** Ends when the image is here; throws when it will not be. */
  pullImage(reference: string, options?: Cancellable): AsyncIterable<PullProgress>;
  listImages(): Promise<readonly Image[]>;
  inspectImage(reference: string): Promise<ImageDetails>;
  /** CONFLICT when a container uses it. */
  removeImage(reference: string): Promise<void>;
  createNetwork(spec: NetworkSpec): Promise<Network>;
  listNetworks(): Promise<readonly Network[]>;
  removeNetwork(ref: string): Promise<void>;
  /** CONFLICT when there is one of that name. */
  createVolume(spec: VolumeSpec): Promise<Volume>;
  listVolumes(): Promise<readonly Volume[]>;
  removeVolume(name: string): Promise<void>;
  /** From `since` on (what the engine still knows), then as they happen; ends with an error when the engine goes away. */
  events(options?: EventOptions & Cancellable): AsyncIterable<EngineEvent>;
}
