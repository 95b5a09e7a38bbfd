/**
 * What a person can do about each kind of problem that a CA tells of. One table: `explain_certificate` reads from it, and
 * the page docs/generated/certificate-problems.md is written from it.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-6.7 | RFC 8555 §6.7}
 */
export interface Remedy {
  readonly means: string;
  readonly remedy: string;
}

export const remedies: Readonly<Record<string, Remedy>> = {
  accountDoesNotExist: {
    means: 'The CA does not know our account any more.',
    remedy: 'Nothing: the next attempt makes it again. If it stays so, check acme.directory.',
  },
  alreadyReplaced: {
    means: 'The CA has a newer certificate in the place of the one that was renewed.',
    remedy: 'Nothing: the order is made again without saying what it replaces.',
  },
  badCSR: {
    means: 'The CA does not take the request, mostly because of the type of its key.',
    remedy: 'Ask for another key: request_certificate with key_type p256.',
  },
  badNonce: {
    means: 'The CA refused a one-time number again and again.',
    remedy: 'Nothing: it is tried again. A front that keeps replies of the CA is a possible reason.',
  },
  caa: {
    means: 'The DNS has a CAA record that does not allow this CA.',
    remedy:
      'Add a CAA record for the CA (for Let\'s Encrypt: 0 issue "letsencrypt.org"), or take the record away.',
  },
  connection: {
    means: 'The CA could not connect to the hostname.',
    remedy:
      'Let the world reach port 80 (HTTP-01) or 443 (TLS-ALPN-01) of this machine under the hostname: bind, firewall, port forwarding, and the address in the DNS.',
  },
  dns: {
    means: 'The hostname has no usable address in the DNS, or its servers do not answer.',
    remedy: 'Make an A or AAAA record that leads to this machine; every address that is there has to.',
  },
  externalAccountRequired: {
    means: 'The CA takes customers only.',
    remedy:
      'Get a key of an external account from the CA and set eab_key_id and eab_hmac_key_file in acme.issuers.',
  },
  incorrectResponse: {
    means: 'Something else than this gateway answered the CA, or an old answer came.',
    remedy:
      'See to it that the hostname leads here for every address in the DNS, and that no front answers /.well-known/acme-challenge/ itself.',
  },
  invalidContact: {
    means: 'The CA does not take the address of the contact.',
    remedy: 'Set another acme.email (OHP_ACME_EMAIL).',
  },
  invalidProfile: {
    means: 'The CA has no such certificate profile.',
    remedy: 'Set a profile of the CA in acme.issuers, or none.',
  },
  malformed: {
    means: 'The CA could not read the request, or does not know the order any more.',
    remedy: 'Nothing: a new order is made. If it stays so, the CA may not speak RFC 8555.',
  },
  orderNotReady: {
    means: 'The order was to be signed before the CA had checked its names.',
    remedy: 'Nothing: it is tried again.',
  },
  rateLimited: {
    means: 'The CA has had too many requests for this account, domain or name.',
    remedy:
      'Wait for the time that it names: it is tried then. Another CA in acme.issuers is asked meanwhile.',
  },
  rejectedIdentifier: {
    means: 'The CA does not certify this hostname.',
    remedy: 'Use another hostname or another CA; the words of the CA say why.',
  },
  recordNotVisible: {
    means: 'Not all name servers of the zone answer with the TXT record in time; the CA was not asked.',
    remedy:
      'The message says which servers lack it and what they answered. See to it that secondaries follow at once (NOTIFY), or raise dns_propagation_timeout_ms.',
  },
  recordNowhere: {
    means: 'There is no zone in which the TXT record of DNS-01 could be written; the CA was not asked.',
    remedy:
      'Name the zone in the setting dns with its provider, or delegate _acme-challenge by a CNAME record into a zone that has one; see that dns_resolvers answer.',
  },
  recordRefused: {
    means: 'Whoever hosts the zone did not take the TXT record of DNS-01; the CA was not asked.',
    remedy:
      'The message has the words of the provider: check the credential, its permissions and the zone in the setting dns.',
  },
  serverInternal: {
    means: 'The CA has a fault of its own.',
    remedy: 'Nothing: it is tried again. Another CA in acme.issuers is asked after some failures.',
  },
  tls: {
    means: 'The CA reached the hostname and could not agree on TLS.',
    remedy:
      'Port 443 has to lead here without another TLS server before it; or let port 80 lead here, for HTTP-01.',
  },
  unauthorized: {
    means: 'What answered the CA was not the expected answer, or the account may not do this.',
    remedy:
      'See to it that the hostname leads here, on port 80 and for every address in the DNS (AAAA too); a login page or a front in between is the usual reason. By DNS-01: the resolvers of the CA have to see the TXT record, so the name servers that the parent of the zone names have to be the right ones.',
  },
  unsupportedIdentifier: {
    means: 'The CA does not certify names of this kind.',
    remedy: 'Use another hostname or another CA.',
  },
  userActionRequired: {
    means: 'A person has to do something at the CA first, such as agree to new terms.',
    remedy:
      "A person signs in at the CA's own site, reached by its own address and not by one in its words, and settles it there.",
  },
};

const OTHER: Remedy = {
  means: 'A problem that only this CA knows.',
  remedy: 'The words of the CA say more; its documentation has the rest.',
};

export const remedyFor = (problem: string): Remedy =>
  (Object.hasOwn(remedies, problem) ? remedies[problem] : undefined) ?? OTHER;
