/**
 * Fetches the chain of a certificate, and other chains for the same certificate where the CA has some.
 * @see {@link https://www.rfc-editor.org/rfc/rfc8555#section-7.4.2 | RFC 8555 §7.4.2}
 */
import { type Chain, type ExpectedCertificate, leadsTo, readChain } from './chain.ts';
import { AcmeError, AcmeFault } from './fault.ts';
import { linksOf } from './links.ts';
import { type AccountRef, type Call, type Session, signerOf } from './session.ts';
import type { Reply } from './transport.ts';

const PEM_CHAIN = 'application/pem-certificate-chain';
const MAX_ALTERNATES = 10;

export interface Download extends ExpectedCertificate {
  certificateUrl: string;
  /** Common name of a root or other issuer that the chain should lead to. */
  preferredIssuer?: string | undefined;
}

export interface DownloadedChain {
  /** Leaf first, without the root. Its leaf is for the key and names that were expected. */
  chainPem: string;
  /** False: no chain that could be read leads to the preferred issuer, so this is the CA's own choice. */
  isPreferred: boolean;
}

/** May be repeated. @throws AcmeFault wrong_certificate for any but the one that was ordered */
export async function download(
  session: Session,
  account: AccountRef,
  wanted: Download,
  call: Call,
): Promise<DownloadedChain> {
  const { preferredIssuer } = wanted;
  const fetchOne = async (url: string): Promise<Reply> =>
    requirePem(await session.post({ url, signer: signerOf(account), accept: PEM_CHAIN }, call));
  const reply = await fetchOne(wanted.certificateUrl);
  const read = ({ text }: Reply): Chain => readChain(text, wanted, session.clock.now());
  const first = read(reply);
  if (preferredIssuer === undefined || leadsTo(first, preferredIssuer))
    return { chainPem: first.chainPem, isPreferred: true };
  for (const url of linksOf(reply.links, 'alternate').slice(0, MAX_ALTERNATES)) {
    const other = await orUndefined(fetchOne(url).then(read));
    if (other && leadsTo(other, preferredIssuer)) return { chainPem: other.chainPem, isPreferred: true };
  }
  return { chainPem: first.chainPem, isPreferred: false };
}

/** The certificate is here already: what is wrong with another chain for it is no reason to lose it. */
async function orUndefined(chain: Promise<Chain>): Promise<Chain | undefined> {
  try {
    return await chain;
  } catch (cause) {
    if (cause instanceof AcmeError) return undefined;
    throw cause;
  }
}

function requirePem(reply: Reply): Reply {
  if (reply.contentType === PEM_CHAIN) return reply;
  throw new AcmeFault(
    'content_type',
    `${reply.url} answered with ${reply.contentType || 'no content type'}, not ${PEM_CHAIN}`,
  );
}
