/**
 * Takes a certificate back, by the account that ordered it or by the certificate's own key.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.6 | RFC 8555 §7.6}
 */
import { type KeyObject, X509Certificate } from 'node:crypto';
import { AcmeProblem } from './problem.ts';
import { type RevocationReason, revocationCodes } from './revocation-reason.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';

export interface Revocation {
  /** Of the certificate; a chain's first is taken. */
  certificatePem: string;
  reason?: RevocationReason | undefined;
  /** The private key of the certificate proves as much as the account does, and works without one. */
  by: AccountRef | { certificateKey: KeyObject };
}

/** May be repeated: one that is revoked already is `isNew: false`. @throws AcmeProblem, AcmeFault */
export async function revoke(
  session: Session,
  { certificatePem, reason, by }: Revocation,
  call: Call,
): Promise<{ isNew: boolean }> {
  const { revokeCert: url } = await session.directory(call);
  const payload = {
    certificate: new X509Certificate(certificatePem).raw.toString('base64url'),
    ...(reason !== undefined && { reason: revocationCodes[reason] }),
  };
  const signer = 'certificateKey' in by ? { key: by.certificateKey } : signerOf(by);
  try {
    await session.post({ url, signer, payload }, call);
    return { isNew: true };
  } catch (cause) {
    if (cause instanceof AcmeProblem && cause.type === 'alreadyRevoked') return { isNew: false };
    throw cause;
  }
}
