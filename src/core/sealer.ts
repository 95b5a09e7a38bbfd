/** Encrypts what has to be secret at rest; the composition root supplies it. */
export interface Sealer {
  /** `context` says what the text belongs to; it opens only with the same context. */
  seal(plain: string, context: string): string;
  /** @throws Error when it was sealed with another key or another context, or was changed since. */
  open(sealed: string, context: string): string;
}
