/**
 * What an engine itself can do, for `guard.ts` alone, which lets through what the policy allows. Labels are those that stand
 * at the engine. Nobody else may have one: it is the engine's whole power.
 */
import type {
  Cancellable,
  Container,
  ContainerDetails,
  ContainerEngine,
  ContainerPlan,
  Created,
  Image,
  Network,
  Volume,
} from './engine.ts';

type Ours = 'managed' | 'changeable' | 'proposals';
export type DriverContainer = Omit<Container, Ours> & { imageId: string };
export type DriverDetails = Omit<ContainerDetails, Ours>;
export type DriverImage = Image & { labels: Readonly<Record<string, string>> };
export type DriverNetwork = Omit<Network, 'managed'>;
export type DriverVolume = Omit<Volume, 'managed'>;

export interface ThingPlan {
  name: string;
  labels: Readonly<Record<string, string>>;
}

export interface RemovePlan {
  force: boolean;
  volumes: boolean;
}

export interface LogPlan extends Cancellable {
  tail?: number | undefined;
  since?: number | undefined;
  follow: boolean;
  stdout: boolean;
  stderr: boolean;
}

type Kept = 'ping' | 'start' | 'stop' | 'restart' | 'stats' | 'inspectImage' | 'events';

export interface ContainerDriver extends Pick<ContainerEngine, Kept> {
  list(options: { all: boolean }): Promise<readonly DriverContainer[]>;
  inspect(ref: string): Promise<DriverDetails>;
  create(plan: ContainerPlan): Promise<Created>;
  /** Absent: it keeps single containers. */
  roll?(id: string, plan: ContainerPlan): Promise<void>;
  /** @param labels of the version before, as they stand at the engine */
  rollBack?(id: string, labels: Readonly<Record<string, string>>): Promise<boolean>;
  remove(ref: string, options: RemovePlan): Promise<void>;
  logs(ref: string, options: LogPlan): ReturnType<ContainerEngine['logs']>;
  /** @param reference canonical: `registry/repository:tag` or `registry/repository@digest` */
  pullImage(reference: string, options: Cancellable): ReturnType<ContainerEngine['pullImage']>;
  listImages(): Promise<readonly DriverImage[]>;
  removeImage(reference: string): Promise<void>;
  createNetwork(plan: ThingPlan & { internal: boolean }): Promise<DriverNetwork>;
  listNetworks(): Promise<readonly DriverNetwork[]>;
  removeNetwork(id: string): Promise<void>;
  /** Answers the one that is there when there is one of that name, with its labels. */
  createVolume(plan: ThingPlan): Promise<DriverVolume>;
  listVolumes(): Promise<readonly DriverVolume[]>;
  removeVolume(name: string): Promise<void>;
}
