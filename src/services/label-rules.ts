/** Which labels of containers made elsewhere are applied by themselves, and within what. A setting of the operator. */
import { z } from 'zod';
import { DAY, MINUTE } from '../core/clock.ts';
import { confines, parseHostnamePattern } from '../core/hostname.ts';
import { imagePatternFault, matchesImage, parseImageReference } from './image-reference.ts';

const MAX_LIST = 1000;
const MAX_RULES = 20;
const MAX_PROXIES = 1000;

export const labelRules = z
  .array(
    z.strictObject({
      key: z
        .string()
        .regex(
          /^ohp\.hostname(?:\.[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)?$/,
          'has to be ohp.hostname, or ohp.hostname. and a word',
        )
        .default('ohp.hostname')
        .describe('Label that names the hostname'),
      hostnames: z
        .array(
          z
            .string()
            .refine(
              (text) => parseHostnamePattern(text) !== undefined,
              'has to be a hostname such as app.example.com, or *.example.com for all below it',
            )
            .overwrite((text) => parseHostnamePattern(text) ?? text),
        )
        .min(1)
        .max(MAX_LIST)
        .describe('Hostnames that it may ask for, such as *.apps.example.com'),
      images: z
        .array(
          z.string().superRefine((text, context) => {
            const fault = imagePatternFault(text);
            if (fault !== undefined) context.addIssue(fault);
          }),
        )
        .min(1)
        .max(MAX_LIST)
        .optional()
        .describe('Images whose containers count, by the name that the engine tells; absent: any'),
      max: z.int().min(1).max(MAX_PROXIES).default(50).describe('Most proxies that are made by this label'),
      keep_ms: z
        .int()
        .min(0)
        .max(DAY)
        .default(10 * MINUTE)
        .describe('How long a proxy stays when its container runs no more; visitors get 503 meanwhile'),
    }),
  )
  .max(MAX_RULES)
  .refine(
    (rules) => new Set(rules.map(({ key }) => key)).size === rules.length,
    'names one key twice; put its hostnames into one entry',
  )
  .default([]);
export type LabelRule = z.output<typeof labelRules>[number];

export const allowsHostname = ({ hostnames }: LabelRule, hostname: string): boolean =>
  hostnames.some((pattern) => confines(pattern, hostname));

export function allowsImage({ images }: LabelRule, image: string): boolean {
  if (images === undefined) return true;
  const reference = parseImageReference(image);
  return reference !== undefined && images.some((pattern) => matchesImage(pattern, reference));
}
