/** What can be done with certificates that come from a CA. */
import { z } from 'zod';
import { idempotencyKeyField, timestamp } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { keyTypes } from '../core/key-type.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { revocationReasons } from './acme/revocation-reason.ts';
import { explanationSchema } from './explain.ts';
import { orderSchema } from './order-schema.ts';
import type { OrderingService } from './ordering.ts';
import { certificateSchema, toldCertificateSchema } from './schema.ts';

type Services = { ordering: OrderingService };

const MAX_NAMES = 100;
const MAX_ISSUER = 32;
const id = z.string().min(1).max(limits.shortText).describe('Id of the certificate, crt_…');

export const getCertificate = defineOperation({
  name: 'get_certificate',
  title: 'Get a certificate',
  description:
    'Shows one certificate: names, validity, which hostnames use it, when it is renewed and by which order it came. Never the key.',
  permission: 'certificates:read',
  confinement: 'filters',
  effect: 'read',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'certificates',
  http: { method: 'GET', path: '/v1/certificates/{id}' },
  input: z.object({ id }),
  output: toldCertificateSchema,
  handler: (input, context, { ordering }: Services) => ordering.get(input.id, context),
});

export const explainCertificate = defineOperation({
  name: 'explain_certificate',
  title: 'Explain a certificate',
  description:
    'Says what a hostname is served with now, which CA and challenge would be used or why none, what stands in the way (DNS, CAA, ports 80 and 443, limits: looked at now), how the last orders went in the words of the CA, when the next attempt is, and what to do.',
  permission: 'certificates:read',
  confinement: 'filters',
  effect: 'read',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'certificates',
  http: { method: 'GET', path: '/v1/certificate-explanation' },
  input: z.object({
    hostname: hostname.describe('Hostname, or *.example.com'),
    check: z
      .boolean()
      .default(true)
      .describe('Also ask the DNS, and whether this gateway is reached; false: only what is known here'),
  }),
  output: explanationSchema,
  handler: ({ hostname: name, check }, context, { ordering }: Services) =>
    ordering.explain({ hostname: name, isChecked: check }, context),
});

export const requestCertificate = defineOperation({
  name: 'request_certificate',
  title: 'Request a certificate',
  description:
    'Orders a certificate from a CA and waits up to a minute; the order goes on after that. Not needed for hostnames that are served: they get theirs unasked. For several names in one, another CA or another key.',
  permission: 'certificates:write',
  confinement: 'filters',
  effect: 'create',
  untrusted: true,
  mcp: 'searchable',
  task: true,
  toolset: 'certificates',
  http: { method: 'POST', path: '/v1/certificate-orders' },
  input: z.object({
    names: z.array(hostname).min(1).max(MAX_NAMES).describe('Hostnames of the one certificate, 1 to 100'),
    issuer: z
      .string()
      .min(1)
      .max(MAX_ISSUER)
      .optional()
      .describe('Name of a CA of acme.issuers; absent: the first that can be asked'),
    key_type: z
      .enum(keyTypes)
      .optional()
      .describe('Kind of its key; absent: as the proxy wants it, else p256'),
    idempotency_key: idempotencyKeyField,
  }),
  output: orderSchema,
  async handler({ names, issuer, key_type: keyType }, context, { ordering }: Services) {
    const order = await ordering.request({ names, issuer, keyType }, context);
    context.audit({ order: order.id, state: order.state, names: order.names });
    return order;
  },
});

export const renewCertificate = defineOperation({
  name: 'renew_certificate',
  title: 'Renew a certificate',
  description:
    'Renews a certificate from a CA before its time and waits up to a minute; the order goes on after that. Not needed in daily work: each is renewed by itself.',
  permission: 'certificates:write',
  confinement: 'filters',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  task: true,
  toolset: 'certificates',
  http: { method: 'POST', path: '/v1/certificates/{id}/renew' },
  input: z.object({ id }),
  output: orderSchema,
  async handler(input, context, { ordering }: Services) {
    const order = await ordering.renew(input.id, context);
    context.audit({ order: order.id, state: order.state });
    return order;
  },
});

export const cancelCertificateOrder = defineOperation({
  name: 'cancel_certificate_order',
  title: 'Cancel a certificate order',
  description:
    'Ends an order that somebody asked for with request_certificate and that is not over. One that the CA has signed for already is not lost: its certificate is kept, and the state says issued. Of an order that is over, tells how it ended.',
  permission: 'certificates:write',
  confinement: 'filters',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'certificates',
  http: { method: 'POST', path: '/v1/certificate-orders/{id}/cancel' },
  input: z.object({
    id: z.string().min(1).max(limits.shortText).describe('Id of the order, ord_…'),
  }),
  output: orderSchema,
  async handler(input, context, { ordering }: Services) {
    const order = await ordering.cancel(input.id, context);
    context.audit({ order: order.id, state: order.state, names: order.names });
    return order;
  },
});

export const rotateAcmeAccountKey = defineOperation({
  name: 'rotate_acme_account_key',
  title: 'Rotate the key of an ACME account',
  description:
    'Gives the account at a CA another key; the account, its orders and its certificates stay. Waits for orders under way there. For when the data directory or a backup may have been read, or a rule asks for it.',
  permission: 'certificates:write',
  confinement: 'refused',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'certificates',
  http: { method: 'POST', path: '/v1/certificate-issuers/{issuer}/account-key' },
  input: z.object({
    issuer: z
      .string()
      .min(1)
      .max(MAX_ISSUER)
      .describe('Name of a CA of acme.issuers; default where none is listed'),
  }),
  output: z.object({
    issuer: z.string(),
    account_url: z.string(),
    thumbprint: z.string().describe('Of the new public key, RFC 7638'),
    rotated_at: timestamp,
  }),
  async handler({ issuer }, context, { ordering }: Services) {
    const rotated = await ordering.rotateAccountKey(issuer, context);
    context.audit({ account: rotated.account_url, thumbprint: rotated.thumbprint });
    return rotated;
  },
});

export const revokeCertificate = defineOperation({
  name: 'revoke_certificate',
  title: 'Revoke a certificate',
  description:
    'Has the CA revoke a certificate that was ordered here, and deletes it with its key. It is not served from now on, also while the CA does not answer: then it is asked again. Hostnames that are served get a new one; until it is there, they use the next best.',
  permission: 'certificates:write',
  confinement: 'filters',
  effect: 'update',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'certificates',
  http: { method: 'POST', path: '/v1/certificates/{id}/revoke' },
  input: z.object({
    id,
    reason: z
      .enum(revocationReasons)
      .default('unspecified')
      .describe('Why, as RFC 5280 names it; keyCompromise when somebody else may have the key'),
  }),
  output: certificateSchema,
  confirm: ({ id: certificate, reason }) =>
    `Have the CA revoke the certificate ${certificate} (${reason}) and delete its key? It can't be undone; clients stop to accept it.`,
  handler: (input, context, { ordering }: Services) => ordering.revoke(input, context),
});
