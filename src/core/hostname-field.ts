/** The argument that names a hostname, or every name one label below another. */
import { z } from 'zod';
import { parseHostnamePattern } from './hostname.ts';

const MAX_HOSTNAME_TEXT = 256;

/** An exact hostname or `*.parent`, in canonical form after parsing. */
export const hostname = z
  .string()
  .min(1)
  .max(MAX_HOSTNAME_TEXT)
  .overwrite((text) => parseHostnamePattern(text) ?? text)
  .refine(
    (text) => parseHostnamePattern(text) !== undefined,
    'has to be a hostname such as app.example.com, or *.example.com (no scheme, port or path)',
  );
