/** What a browser answers for a passkey, and what is kept of one. @see WebAuthn Level 3 §5.1.8 `toJSON` */
import { z } from 'zod';

const MAX_BASE64 = 16 * 1024;

const base64url = z
  .string()
  .max(MAX_BASE64)
  .regex(/^[A-Za-z0-9_-]*$/);
/** Of the kinds that there are; others are of no use and are left out. */
const transports = z
  .array(z.string())
  .max(10)
  .transform((names) => names.filter((name) => isTransport(name)));

const known = ['ble', 'cable', 'hybrid', 'internal', 'nfc', 'smart-card', 'usb'] as const;
const isTransport = (name: string): name is (typeof known)[number] =>
  (known as readonly string[]).includes(name);

const credential = {
  id: base64url,
  rawId: base64url,
  type: z.literal('public-key'),
  clientExtensionResults: z.object({}).default({}),
};

export const registrationSchema = z.object({
  ...credential,
  response: z.object({
    clientDataJSON: base64url,
    attestationObject: base64url,
    transports: transports.optional().default([]),
  }),
});

export const assertionSchema = z.object({
  ...credential,
  response: z.object({
    clientDataJSON: base64url,
    authenticatorData: base64url,
    signature: base64url,
    /** A discoverable credential always names its user. */
    userHandle: base64url,
  }),
});

export const passkeyDocument = z.object({
  name: z.string(),
  hostname: z.string(),
  public_key: z.string(),
  transports: z.array(z.string()),
});
