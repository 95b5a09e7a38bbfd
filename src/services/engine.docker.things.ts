/** What Docker and Podman answer of images, networks, volumes and events. */
import { z } from 'zod';
import { SECOND } from '../core/clock.ts';
import {
  filled,
  imageIdOf,
  keys,
  labels,
  moment,
  number,
  strings,
  unlessZero,
  words,
} from './engine.docker.forms.ts';
import type { DriverImage, DriverNetwork, DriverVolume } from './engine.driver.ts';
import type { EngineEvent, ImageDetails, PullProgress } from './engine.ts';

const NS_PER_MS = 1_000_000;

export const imagesSchema = z.array(
  z
    .object({
      Id: z.string(),
      RepoTags: strings,
      RepoDigests: strings,
      Size: number,
      Created: number,
      Labels: labels,
    })
    .transform(
      (found): DriverImage => ({
        id: imageIdOf(found.Id),
        references: found.RepoTags.filter((tag) => tag !== '<none>:<none>'),
        digests: found.RepoDigests.filter((digest) => digest !== '<none>@<none>'),
        sizeBytes: found.Size,
        createdAt: found.Created * SECOND,
        labels: found.Labels,
      }),
    ),
);

export const imageSchema = z
  .object({
    Id: z.string(),
    RepoTags: strings,
    RepoDigests: strings,
    Size: number,
    Created: moment,
    Architecture: z.string().default(''),
    Os: z.string().default(''),
    Config: z.preprocess(
      (found) => found ?? {},
      z.object({
        ExposedPorts: keys,
        Volumes: keys,
        User: filled,
        WorkingDir: filled,
        Entrypoint: words,
        Cmd: words,
        Env: strings,
        Labels: labels,
        Healthcheck: z.object({ Test: strings }).nullish(),
      }),
    ),
  })
  .transform((found): ImageDetails => {
    const config = found.Config;
    const test = config.Healthcheck?.Test ?? [];
    return {
      id: imageIdOf(found.Id),
      references: found.RepoTags,
      digests: found.RepoDigests,
      sizeBytes: found.Size,
      createdAt: found.Created ?? 0,
      exposedPorts: config.ExposedPorts,
      volumes: config.Volumes,
      user: config.User,
      workingFolder: config.WorkingDir,
      entrypoint: config.Entrypoint,
      command: config.Cmd,
      environmentNames: config.Env.map((entry) => entry.split('=', 1)[0] ?? ''),
      hasHealthCheck: test.length > 0 && test[0] !== 'NONE',
      labels: config.Labels,
      architecture: found.Architecture,
      os: found.Os,
    };
  });

export const pullLineSchema = z.object({
  id: filled,
  status: filled,
  error: filled,
  progressDetail: z.object({ current: unlessZero, total: unlessZero }).nullish(),
});

export const progressOf = ({
  id,
  status = '',
  progressDetail,
}: z.output<typeof pullLineSchema>): PullProgress => ({
  ...(id !== undefined && { layer: id }),
  status,
  ...(progressDetail?.current !== undefined && { doneBytes: progressDetail.current }),
  ...(progressDetail?.total !== undefined && { totalBytes: progressDetail.total }),
});

export const networksSchema = z.array(
  z
    .object({
      Id: z.string(),
      Name: z.string(),
      Driver: z.string(),
      Internal: z.boolean().nullish(),
      Labels: labels,
    })
    .transform(
      (found): DriverNetwork => ({
        id: found.Id,
        name: found.Name,
        driver: found.Driver,
        internal: found.Internal === true,
        labels: found.Labels,
      }),
    ),
);
export const madeNetworkSchema = z.object({ Id: z.string() });

export const volumeSchema = z
  .object({ Name: z.string(), Driver: z.string(), CreatedAt: moment, Labels: labels })
  .transform(
    (found): DriverVolume => ({
      name: found.Name,
      driver: found.Driver,
      createdAt: found.CreatedAt,
      labels: found.Labels,
    }),
  );
export const volumesSchema = z
  .object({ Volumes: z.array(volumeSchema).nullish() })
  .transform(({ Volumes: found }) => found ?? []);

/** Podman's words for what Docker has others for. */
const renamed = new Map([
  ['died', 'die'],
  ['remove', 'destroy'],
]);

export const eventLineSchema = z
  .object({
    Type: z.string(),
    Action: z.string(),
    Actor: z.object({ ID: z.string(), Attributes: z.record(z.string(), z.string()).nullish() }),
    time: number,
    timeNano: number,
  })
  .transform((found): EngineEvent | undefined => {
    const attributes = found.Actor.Attributes ?? {};
    const action = renamed.get(found.Action) ?? found.Action;
    const time = found.timeNano > 0 ? found.timeNano / NS_PER_MS : found.time * SECOND;
    if (found.Type === 'container')
      return {
        time,
        kind: 'container',
        action,
        containerId: found.Actor.ID,
        containerName: attributes.name,
      };
    const { container } = attributes;
    if (found.Type !== 'network' || container === undefined) return undefined;
    return {
      time,
      kind: 'network',
      action,
      containerId: container,
      networkName: attributes.name,
    };
  });
