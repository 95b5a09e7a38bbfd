/** What a swarm answers of services, their tasks, nodes and secrets, checked; `engine.swarm.shown.ts` makes words of ours of it. */
import { z } from 'zod';
import { filled, labels, moment, number, strings, unlessZero } from './engine.docker.forms.ts';

/** On each task, new with every change: tells those of the version that is wanted from those before. */
export const VERSION_LABEL = 'ohp.version';

const list = <Item extends z.ZodType>(item: Item) =>
  z
    .array(item)
    .nullish()
    .transform((found) => found ?? []);

const containerSpec = z.looseObject({
  Image: z.string(),
  Labels: labels,
  Env: strings,
  User: filled,
  ReadOnly: z.boolean().nullish(),
  Healthcheck: z.looseObject({ Test: strings }).nullish(),
  Mounts: list(
    z.looseObject({
      Type: z.string(),
      Source: filled,
      Target: z.string(),
      ReadOnly: z.boolean().nullish(),
    }),
  ),
  Secrets: list(z.looseObject({ SecretID: z.string() })),
});

const specSchema = z.looseObject({
  Name: z.string(),
  Labels: labels,
  TaskTemplate: z.looseObject({
    ContainerSpec: containerSpec.nullish(),
    Resources: z
      .looseObject({
        Limits: z.looseObject({ NanoCPUs: unlessZero, MemoryBytes: unlessZero, Pids: unlessZero }).nullish(),
      })
      .nullish(),
    RestartPolicy: z.looseObject({ Condition: z.string().nullish() }).nullish(),
    Networks: list(z.looseObject({ Target: z.string(), Aliases: strings })),
  }),
  Mode: z.looseObject({ Replicated: z.looseObject({ Replicas: number }).nullish() }),
  EndpointSpec: z
    .looseObject({
      Ports: list(z.looseObject({ TargetPort: z.int(), Protocol: z.string().default('tcp') })),
    })
    .nullish(),
});

export const serviceSchema = z.object({
  ID: z.string(),
  Version: z.object({ Index: z.number() }),
  CreatedAt: moment,
  Spec: specSchema,
  PreviousSpec: specSchema.nullish(),
  UpdateStatus: z.object({ State: z.string().nullish(), Message: filled }).nullish(),
});
export type FoundService = z.output<typeof serviceSchema>;
export const servicesSchema = z.array(serviceSchema);
/**
 * As it came, to be sent back with a change. The reading above fills in what was left out, which would be another specification.
 */
export const rawServiceSchema = z.looseObject({
  ID: z.string(),
  Version: z.object({ Index: z.number() }),
  Spec: z.looseObject({
    Labels: labels,
    TaskTemplate: z.looseObject({
      ContainerSpec: z.looseObject({ Labels: labels }),
    }),
    Mode: z.looseObject({ Replicated: z.looseObject({ Replicas: number }) }),
  }),
  PreviousSpec: z
    .object({
      Labels: labels,
      TaskTemplate: z.object({
        ContainerSpec: z.object({
          Labels: labels,
          Secrets: list(
            z.object({ SecretID: z.string(), SecretName: z.string(), File: z.object({ Name: z.string() }) }),
          ),
        }),
      }),
    })
    .nullish()
    .catch(undefined),
});
export type RawService = z.output<typeof rawServiceSchema>;

export const tasksSchema = z.array(
  z.object({
    ID: z.string(),
    ServiceID: z.string().default(''),
    NodeID: z.string().default(''),
    CreatedAt: moment,
    DesiredState: z.string(),
    Spec: z.object({ ContainerSpec: z.object({ Labels: labels }).nullish() }),
    Status: z.object({
      Timestamp: moment,
      State: z.string(),
      Err: filled,
      ContainerStatus: z.object({ ContainerID: filled, ExitCode: number }).nullish(),
      PortStatus: z
        .object({
          Ports: list(
            z.object({
              Protocol: z.string(),
              TargetPort: z.int(),
              PublishedPort: z.int().nullish(),
            }),
          ),
        })
        .nullish(),
    }),
  }),
);
export type FoundTask = z.output<typeof tasksSchema>[number];

export const nodesSchema = z.array(
  z.object({ ID: z.string(), Status: z.object({ Addr: z.string().default('') }) }),
);

export const secretsSchema = z.array(
  z.object({ ID: z.string(), Spec: z.object({ Name: z.string(), Labels: labels }) }),
);

/** Of `GET /info`. */
export const infoSchema = z.object({
  ServerVersion: z.string(),
  Swarm: z.object({
    NodeID: z.string().default(''),
    LocalNodeState: z.string().default(''),
    ControlAvailable: z.boolean().default(false),
  }),
});

export const idSchema = z
  .object({ ID: z.string() })
  .transform(({ ID: id }) => ({ id, warnings: [] as string[] }));

export const taskContainersSchema = z.array(z.object({ Id: z.string() }));
