/** The mail server that alerts are sent by. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { forbiddenAddress } from '../core/addresses.ts';
import { parseHostname } from '../core/hostname.ts';

const MAX_TEXT = 500;
const MAX_ADDRESS = 254;
const MAX_PORT = 65_535;
const MAX_RECIPIENTS = 10;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/;

function hostFault(host: string): string | undefined {
  if (isIP(host) !== 0) return forbiddenAddress(host);
  return parseHostname(host) === undefined ? 'has to be a hostname or an IP address' : undefined;
}

/** Nothing in it that could end a header or begin another. @see RFC 5321 §4.1.2 */
const LOCAL_PART = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/;
const MAX_LOCAL_PART = 64;

function isAddress(text: string): boolean {
  const at = text.lastIndexOf('@');
  const [local, domain] = [text.slice(0, at), text.slice(at + 1)];
  return (
    at > 0 && local.length <= MAX_LOCAL_PART && LOCAL_PART.test(local) && parseHostname(domain) === domain
  );
}

const address = z
  .string()
  .max(MAX_ADDRESS)
  .refine(isAddress, 'has to be an address such as alerts@example.com, without a name before it');

const file = z.string().min(1).max(MAX_TEXT).optional();

export const smtpSchema = z
  .strictObject({
    host: z
      .string()
      .max(MAX_ADDRESS)
      .superRefine((host, context) => {
        const fault = hostFault(host);
        if (fault !== undefined) context.addIssue(fault);
      })
      .describe('Mail server, by name or address'),
    port: z.int().min(1).max(MAX_PORT).optional().describe('Absent: 465 where tls is implicit, else 587'),
    tls: z
      .enum(['starttls', 'implicit', 'none'])
      .default('starttls')
      .describe(
        'starttls: required, not only tried; implicit: from the first byte; none: on this machine only',
      ),
    ca_file: file.describe('PEM file of authorities that are trusted besides those of the system'),
    ca_pem: z.string().optional().describe('The same, written here'),
    username: z.string().min(1).max(MAX_TEXT).optional(),
    password: z
      .string()
      .min(1)
      .max(MAX_TEXT)
      .optional()
      .meta({ secret: true })
      .describe('Better: password_file'),
    password_file: file.describe('File that holds the password and nothing else'),
    from: address.describe('Sender'),
    to: z.array(address).min(1).max(MAX_RECIPIENTS).describe('Who is told'),
  })
  .check(({ value, issues }) => {
    const refuse = (field: string, message: string) =>
      issues.push({ code: 'custom', input: value, path: [field], message });
    const passwords = [value.password, value.password_file].filter((one) => one !== undefined).length;
    if (passwords !== (value.username === undefined ? 0 : 1))
      refuse('username', 'needs exactly one of password_file and password beside it, and they need it');
    if (value.tls === 'none' && !LOOPBACK.test(value.host))
      refuse('tls', 'none is for a mail server on this machine (localhost, 127.0.0.1, ::1)');
    if (value.ca_file !== undefined && value.ca_pem !== undefined)
      refuse('ca_file', 'has ca_pem beside it; leave one out');
  });
