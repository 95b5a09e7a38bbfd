/**
 * Dynamic update of an own name server, signed with TSIG, over TCP. Adding a record that is there and taking away one
 * that is not are no errors there (RFC 2136 §3.4.2), so each change is one message and needs no reading before.
 * @see {@link https://www.rfc-editor.org/rfc/rfc2136 | RFC 2136}
 */
import { isIP } from 'node:net';
import { AppError, messageOf } from '../../../core/errors.ts';
import { cleanText } from '../../../core/untrusted.ts';
import { DnsFault } from '../fault.ts';
import {
  CLASS,
  type Message,
  OPCODE,
  RCODE,
  rcodeName,
  readMessage,
  TYPE,
  type WrittenRecord,
  writeMessage,
  writeText,
} from '../message.ts';
import { type DnsProvider, TXT_TTL_SECONDS, type TxtRecord } from '../provider.ts';
import type { Resolver } from '../resolver.ts';
import type { SettingsOf } from '../schema.ts';
import type { ReadSecret } from '../secret.ts';
import { type DnsServer, type Network, newId, overTcp } from '../transport.ts';
import { sign, TSIG_ERROR, type TsigKey, verify } from '../tsig.ts';
import { zoneOf } from '../zone.ts';

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
/** Shorter keys are guessed (RFC 8945 §8 asks for the length of the hash at least; servers are often given less). */
const MIN_KEY_BYTES = 16;

export interface Rfc2136Parts {
  readonly network: Network;
  readonly resolver: Resolver;
  readonly readSecret: ReadSecret;
}

export function createRfc2136(settings: SettingsOf<'rfc2136'>, parts: Rfc2136Parts): DnsProvider {
  const { network } = parts;

  async function update(zone: string, change: WrittenRecord, signal: AbortSignal): Promise<void> {
    const key = await loadKey(settings, parts.readSecret);
    const server = await serverOf(settings, parts.resolver, zone, signal);
    const id = newId(network);
    const question = { name: zone, type: TYPE.SOA };
    const message = writeMessage({
      id,
      opcode: OPCODE.UPDATE,
      recursionDesired: false,
      question,
      updates: [change],
    });
    const where = `the name server ${server.address} port ${server.port}`;
    const request = sign(message, key, network.clock.now());
    try {
      const bytes = await overTcp(network, server, request.bytes, signal);
      const answer = readMessage(bytes);
      if (answer.id !== id || !answer.isResponse || answer.opcode !== OPCODE.UPDATE)
        throw new DnsFault('malformed', 'what came is no answer to the update');
      const verdict = verify({ bytes, message: answer, mac: request.mac, now: network.clock.now() }, key);
      if (verdict.kind === 'refused') throw signatureRefused(where, verdict, key, network.clock.now());
      requireDone(answer, where, zone, key.name);
    } catch (cause) {
      throw cause instanceof DnsFault ? changeFailed(where, zone, cause) : cause;
    }
  }

  return {
    publish: ({ zone, name, value }, signal) =>
      update(zone, { ...txt(name, value), class: CLASS.IN, ttl: TXT_TTL_SECONDS }, signal),
    // RFC 2136 §2.5.4: class NONE takes away the one record with this data.
    withdraw: ({ zone, name, value }, signal) =>
      update(zone, { ...txt(name, value), class: CLASS.NONE, ttl: 0 }, signal),
  };
}

const txt = (name: TxtRecord['name'], value: string) => ({ name, type: TYPE.TXT, rdata: writeText(value) });

async function loadKey(settings: SettingsOf<'rfc2136'>, readSecret: ReadSecret): Promise<TsigKey> {
  const text = await readSecret(settings.secret, 'secret (TSIG)');
  const secret = BASE64.test(text) ? Buffer.from(text, 'base64') : Buffer.alloc(0);
  if (secret.length < MIN_KEY_BYTES)
    throw new AppError(
      'PRECONDITION_FAILED',
      `the TSIG key ${settings.key_name} has to be base64 of at least ${MIN_KEY_BYTES} bytes, as tsig-keygen makes it`,
    );
  return { name: settings.key_name, algorithm: settings.algorithm, secret };
}

async function serverOf(
  { server, port }: SettingsOf<'rfc2136'>,
  resolver: Resolver,
  zone: string,
  signal: AbortSignal,
): Promise<DnsServer> {
  const host = server ?? (await zoneOf(resolver, zone, signal)).primary;
  if (isIP(host) !== 0) return { address: host, port };
  for (const type of ['A', 'AAAA'] as const) {
    const found = await resolver.lookup(host, type, signal);
    const address = found.kind === 'found' ? found.records[0]?.address : undefined;
    if (address !== undefined) return { address, port };
  }
  throw new AppError(
    'UNAVAILABLE',
    `no address was found for ${cleanText(host)}, which takes updates of ${zone}`,
  );
}

function signatureRefused(
  where: string,
  { error, serverTime }: { error: number; serverTime: number | undefined },
  key: TsigKey,
  now: number,
): AppError {
  const words: Readonly<Record<number, string>> = {
    [TSIG_ERROR.BADKEY]: `does not know the TSIG key ${key.name} with ${key.algorithm}; check key_name and algorithm`,
    [TSIG_ERROR.BADSIG]: `has another secret for the TSIG key ${key.name}`,
    [TSIG_ERROR.BADTIME]: `has another time than this machine${serverTime === undefined ? '' : ` (${Math.round(Math.abs(now - serverTime) / 1000)} seconds apart)`}; set the clocks`,
  };
  return new AppError('UPSTREAM_FAILED', `${where} ${words[error] ?? `refused the signature (${error})`}`);
}

function requireDone({ rcode }: Message, where: string, zone: string, keyName: string): void {
  if (rcode === RCODE.NOERROR) return;
  const words: Readonly<Record<number, string>> = {
    [RCODE.REFUSED]: `does not let the key ${keyName} change this record of ${zone}; grant it TXT records of _acme-challenge names`,
    [RCODE.NOTAUTH]: `is not the primary of the zone ${zone}`,
    [RCODE.NOTZONE]: `keeps the name in another zone than ${zone}`,
  };
  throw new AppError(
    rcode === RCODE.SERVFAIL ? 'UNAVAILABLE' : 'UPSTREAM_FAILED',
    `${where} ${words[rcode] ?? 'could not make the change'} (${rcodeName(rcode)})`,
  );
}

function changeFailed(where: string, zone: string, fault: DnsFault): AppError {
  const message = `the change of ${zone} failed at ${where}: ${messageOf(fault)}`;
  if (fault.kind === 'timeout')
    return new AppError('TIMEOUT', `${message}; it may have been made`, { cause: fault });
  return new AppError(fault.kind === 'malformed' ? 'UPSTREAM_FAILED' : 'UNAVAILABLE', message, {
    cause: fault,
  });
}
