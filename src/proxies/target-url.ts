/** The URL of a target, as it is written: of a proxy, of a route, of one target among several. */
import { z } from 'zod';

const MAX_URL = 2048;

export const targetUrl = z
  .string()
  .max(MAX_URL)
  .refine((text) => targetFault(text) === undefined, {
    error: ({ input }) =>
      `has to be an http:// or https:// URL such as http://localhost:3000: ${targetFault(String(input)) ?? ''}`,
  });

/** `URL` takes out line ends and reads a backslash as a slash: then people and programs would read two targets. */
const READ_DIFFERENTLY = /[\p{Cc}\s\\]/u;

function targetFault(text: string): string | undefined {
  if (READ_DIFFERENTLY.test(text)) return 'a space, a control character or a backslash does not belong in it';
  const url = URL.parse(text);
  if (!url) return 'it is not a URL';
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return `the scheme is ${url.protocol}`;
  if (url.username !== '' || url.password !== '') return 'a user name or password does not belong in it';
  if (url.hash !== '' || url.search !== '') return 'a query or fragment does not belong in it';
  return undefined;
}
