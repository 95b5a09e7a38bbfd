/** For tests: a reader and writer of certificates that is not ours. */

/** The library's container asks for decorator metadata, of which it uses none for what is done here. */
Object.assign(Reflect, {
  getMetadata: () => undefined,
  getOwnMetadata: () => undefined,
  hasOwnMetadata: () => false,
  defineMetadata: () => {},
});
export const x509 = await import('@peculiar/x509');
