/**
 * What can be asked over the broker's socket: the verbs of the port, with what each takes and answers. Server and client are
 * made from this, so that neither knows a verb that the other does not. `POST /v1/<verb>` with the arguments as a JSON list;
 * a stream answers newline-delimited JSON.
 */
import { z } from 'zod';
import * as schema from './engine.schema.ts';
import type { ContainerEngine } from './engine.ts';

const MAX_ANSWERS = 100_000;

const none = z.tuple([]);
const nothing = z.null();
const ref = z.tuple([schema.nameSchema]);
const image = z.tuple([schema.imageReferenceSchema]);
const listOf = <Item extends z.ZodType>(item: Item) => z.array(item).max(MAX_ANSWERS);
const refAnd = <Options extends z.ZodType>(options: Options) => z.tuple([schema.nameSchema, options]);

interface Verb {
  readonly takes: z.ZodType<unknown[]>;
  readonly answers: z.ZodType;
  /** One answer after the other, until there is no more. */
  readonly isStream?: true;
}

export const verbs = {
  ping: { takes: none, answers: schema.stateSchema },
  list: { takes: z.tuple([schema.listOptionsSchema]), answers: listOf(schema.containerSchema) },
  inspect: { takes: ref, answers: schema.containerDetailsSchema },
  check: { takes: z.tuple([schema.containerSpecSchema]), answers: nothing },
  create: { takes: z.tuple([schema.containerSpecSchema]), answers: schema.createdSchema },
  roll: { takes: refAnd(schema.containerSpecSchema), answers: nothing },
  rollBack: { takes: refAnd(schema.labels), answers: z.boolean() },
  start: { takes: ref, answers: nothing },
  stop: { takes: refAnd(schema.stopOptionsSchema), answers: nothing },
  restart: { takes: refAnd(schema.stopOptionsSchema), answers: nothing },
  remove: { takes: refAnd(schema.removeOptionsSchema), answers: nothing },
  logs: { takes: refAnd(schema.logOptionsSchema), answers: schema.logLineSchema, isStream: true },
  stats: { takes: ref, answers: schema.statsSchema },
  pullImage: { takes: image, answers: schema.pullProgressSchema, isStream: true },
  listImages: { takes: none, answers: listOf(schema.imageSchema) },
  inspectImage: { takes: image, answers: schema.imageDetailsSchema },
  removeImage: { takes: image, answers: nothing },
  createNetwork: { takes: z.tuple([schema.networkSpecSchema]), answers: schema.networkSchema },
  listNetworks: { takes: none, answers: listOf(schema.networkSchema) },
  removeNetwork: { takes: ref, answers: nothing },
  createVolume: { takes: z.tuple([schema.thingSchema]), answers: schema.volumeSchema },
  listVolumes: { takes: none, answers: listOf(schema.volumeSchema) },
  removeVolume: { takes: ref, answers: nothing },
  events: { takes: z.tuple([schema.eventOptionsSchema]), answers: schema.eventSchema, isStream: true },
} as const satisfies Record<keyof ContainerEngine, Verb>;

export type VerbName = keyof ContainerEngine;

/** Of a path from outside; a name that every object has is no verb. */
export const isVerb = (text: string): text is VerbName => Object.hasOwn(verbs, text);

export const verbOf = (name: VerbName): Verb => verbs[name];

/** Whether something is changed: said in the broker's log. */
export const isChange = (name: VerbName): boolean => !READING.has(name);

const READING: ReadonlySet<VerbName> = new Set<VerbName>([
  'ping',
  'list',
  'inspect',
  'check',
  'logs',
  'stats',
  'listImages',
  'inspectImage',
  'listNetworks',
  'listVolumes',
  'events',
]);

/** One line of a stream: an answer, or how it ended. Without an end it broke off. */
export const faultSchema = z.object({
  code: z.string(),
  message: z.string(),
  details: z.record(z.string(), z.unknown()).optional(),
  isQuoting: z.boolean().optional(),
});
export const lineSchema = z.union([
  z.object({ answer: z.unknown() }).refine((line) => 'answer' in line),
  z.object({ end: z.literal(true) }),
  z.object({ fault: faultSchema }),
]);
