/** What can go wrong between us and one server of the DNS. Told apart, because each has another remedy. */

/** `no_route`: this machine has no network of that kind, which says nothing about the server. */
export type DnsFaultKind = 'timeout' | 'unreachable' | 'no_route' | 'malformed';

export class DnsFault extends Error {
  override readonly name = 'DnsFault';
  readonly kind: DnsFaultKind;

  constructor(kind: DnsFaultKind, message: string, options?: { cause: unknown }) {
    super(message, options);
    this.kind = kind;
  }
}
