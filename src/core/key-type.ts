/** Kinds of keys of certificates; P-256 is what every client takes and the fastest to serve with. */
export const keyTypes = ['p256', 'p384', 'rsa2048', 'rsa3072', 'rsa4096'] as const;
export type CertificateKeyType = (typeof keyTypes)[number];
