/** What can be done with certificates. The private key comes out by `export_certificate` alone. */
import { z } from 'zod';
import { cursorField, idempotencyKeyField, limitField, versionField } from '../core/collection.ts';
import { hostname } from '../core/hostname-field.ts';
import { limits } from '../core/limits.ts';
import { defineOperation } from '../core/operation.ts';
import { MAX_PEM } from './import.ts';
import {
  cancelCertificateOrder,
  explainCertificate,
  getCertificate,
  renewCertificate,
  requestCertificate,
  revokeCertificate,
  rotateAcmeAccountKey,
} from './operations.orders.ts';
import { certificateListSchema, certificateSchema, exportedCertificateSchema } from './schema.ts';
import type { CertificateService } from './service.ts';

type Services = { certificates: CertificateService };

export const listCertificates = defineOperation({
  name: 'list_certificates',
  title: 'List certificates',
  description:
    'Lists TLS certificates, soonest to expire first: names, issuer, validity, source, and which hostnames use each. Never the key.',
  permission: 'certificates:read',
  confinement: 'filters',
  effect: 'read',
  untrusted: true,
  mcp: 'listed',
  toolset: 'certificates',
  http: { method: 'GET', path: '/v1/certificates' },
  input: z.object({
    limit: limitField,
    cursor: cursorField,
    hostname: hostname.optional().describe('Only those valid for this hostname'),
  }),
  output: certificateListSchema,
  handler: (query, context, { certificates }: Services) => certificates.list(query, context),
});

export const importCertificate = defineOperation({
  name: 'import_certificate',
  title: 'Import a certificate',
  description:
    'Adds a TLS certificate with its private key (PEM) and serves it where its names fit. The key would be read by the model: prefer REST or the command line.',
  permission: 'certificates:write',
  confinement: 'filters',
  effect: 'create',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'certificates',
  http: { method: 'POST', path: '/v1/certificates' },
  input: z.object({
    // Secret as well: people paste the key into the wrong field, and arguments are kept in the audit record.
    certificate_pem: z
      .string()
      .min(1)
      .max(MAX_PEM)
      .describe('The certificate and its intermediates, in any order')
      .meta({ secret: true }),
    private_key_pem: z
      .string()
      .min(1)
      .max(MAX_PEM)
      .describe('Its private key, not encrypted: PKCS#8, SEC1 or PKCS#1')
      .meta({ secret: true }),
    idempotency_key: idempotencyKeyField,
  }),
  output: certificateSchema,
  async handler({ certificate_pem, private_key_pem }, context, { certificates }: Services) {
    const certificate = await certificates.import(
      { certificatePem: certificate_pem, privateKeyPem: private_key_pem },
      context,
    );
    context.audit({ certificate: certificate.id, names: certificate.names });
    return certificate;
  },
});

export const exportCertificate = defineOperation({
  name: 'export_certificate',
  title: 'Export a certificate with its key',
  description:
    'Gives out a certificate, its intermediates and its private key as PEM, to serve it elsewhere. Not over MCP: a key that a model has read is not private any more. Every export is in the audit log.',
  permission: 'certificates:export',
  // A certificate may be for more hostnames than who is confined may touch, and a key is for all of them.
  confinement: 'refused',
  effect: 'update',
  untrusted: true,
  mcp: 'never',
  toolset: 'certificates',
  http: { method: 'POST', path: '/v1/certificates/{id}/export' },
  input: z.object({ id: z.string().min(1).max(limits.shortText).describe('Id of the certificate, crt_…') }),
  output: exportedCertificateSchema,
  confirm: ({ id }) =>
    `Give out the private key of the certificate ${id}? Whoever has it can pass for its hostnames until the certificate ends or is revoked.`,
  document: ({ chain_pem, private_key_pem }) => `${chain_pem.trimEnd()}\n${private_key_pem.trimEnd()}\n`,
  async handler({ id }, context, { certificates }: Services) {
    const { certificate, chainPem, keyPem } = await certificates.export(id);
    const { names, not_after, fingerprint_sha256 } = certificate;
    context.audit({ certificate: id, names, fingerprint_sha256 });
    return { id, names, not_after, fingerprint_sha256, chain_pem: chainPem, private_key_pem: keyPem };
  },
});

export const deleteCertificate = defineOperation({
  name: 'delete_certificate',
  title: 'Delete a certificate',
  description:
    'Deletes a certificate and its key. Hostnames that use it change to the next best one, at last one of the internal CA.',
  permission: 'certificates:write',
  confinement: 'filters',
  effect: 'delete',
  untrusted: true,
  mcp: 'searchable',
  toolset: 'certificates',
  http: { method: 'DELETE', path: '/v1/certificates/{id}' },
  input: z.object({
    id: z.string().min(1).max(limits.shortText).describe('Id of the certificate, crt_…'),
    version: versionField,
    force: z.boolean().default(false).describe('Also while hostnames are served with it'),
  }),
  output: certificateSchema,
  confirm: ({ id, force }) =>
    `Delete the certificate ${id} and its private key${force ? ', even while hostnames are served with it' : ''}? It can't be undone.`,
  handler: ({ id, version, force }, context, { certificates }: Services) =>
    certificates.remove({ id, version, force }, context),
});

export const certificateOperations = [
  listCertificates,
  getCertificate,
  explainCertificate,
  requestCertificate,
  renewCertificate,
  cancelCertificateOrder,
  importCertificate,
  revokeCertificate,
  exportCertificate,
  deleteCertificate,
  rotateAcmeAccountKey,
] as const;
