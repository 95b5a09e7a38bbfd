/** What a proxy wants of its certificate, beside what the settings say. What is left out may be any. */
import { z } from 'zod';
import { AppError } from '../core/errors.ts';
import { keyTypes } from '../core/key-type.ts';

const MAX_ISSUERS = 10;
const MAX_PROFILE = 64;
/** In the place of a CA's name: the CA of this system, which is asked for nothing and always there. */
const INTERNAL = 'internal';

const name = z.string().min(1).max(MAX_PROFILE);

export const certificateChoice = z.strictObject({
  issuers: z
    .array(name)
    .min(1)
    .max(MAX_ISSUERS)
    .refine((names) => new Set(names).size === names.length, 'names one issuer twice')
    .optional()
    .describe('Names of acme.issuers in order of preference; internal: ends the list'),
  key_type: z.enum(keyTypes).optional(),
  profile: name.optional().describe('Of the CA, where it offers it'),
  on_demand: z.boolean().optional().describe('Of a wildcard: a certificate for each name that is come for'),
});
export type CertificateChoice = z.output<typeof certificateChoice>;

/** @throws AppError INVALID_INPUT for an issuer that is not set up, and for what does not belong to this hostname. */
export function requireChoice(
  { issuers = [], on_demand: onDemand }: CertificateChoice,
  { hostname, known }: { hostname: string; known: readonly string[] },
): void {
  const unknown = issuers.find((issuer) => issuer !== INTERNAL && !known.includes(issuer));
  if (unknown !== undefined)
    throw new AppError(
      'INVALID_INPUT',
      `certificate.issuers: there is no ${JSON.stringify(unknown)}; there are ${[...known, INTERNAL].join(', ')}`,
    );
  if (issuers.includes(INTERNAL) && issuers.at(-1) !== INTERNAL)
    throw new AppError(
      'INVALID_INPUT',
      `certificate.issuers: ${INTERNAL} is always there, so it has to be the last`,
    );
  if (onDemand !== undefined && !hostname.startsWith('*.'))
    throw new AppError('INVALID_INPUT', `certificate.on_demand: is for wildcards; ${hostname} is none`);
}
