/** GET and DELETE of the legacy era: the standing stream of a session, resuming any of its streams, and its end. */
import type { Exchange } from '../../core/exchange.ts';
import type { Principal } from '../../core/principal.ts';
import { readAccept } from './accept.ts';
import { type Channel, parseEventId, type Position } from './channel.ts';
import { EVENT_HEADERS, type EventStream } from './event-stream.ts';
import { findSession, headerOf, type LegacyParts, requireVersion } from './legacy.ts';
import type { Facts } from './record.ts';
import { refusals } from './refusal.ts';
import { findResource } from './resources.ts';
import { sendNothing } from './reply.ts';
import type { Call, Session } from './session.ts';

type StreamParts = Pick<LegacyParts, 'sessions' | 'streams' | 'eventLog' | 'views'>;

export async function serveGet(
  parts: StreamParts,
  exchange: Exchange,
  principal: Principal,
  facts: Facts,
): Promise<void> {
  facts.era = 'legacy';
  if (!readAccept(exchange.headers.accept).events) throw refusals.accept('text/event-stream');
  const session = await requireSession(parts, exchange, principal);
  requireVersion(exchange);
  facts.session = session.hash;
  facts.client = session.client;
  if (exchange.method === 'HEAD') return end(exchange);
  const lastEventId = headerOf(exchange, 'last-event-id');
  const position = lastEventId === undefined ? undefined : parseEventId(lastEventId);
  if (lastEventId !== undefined && !position)
    throw refusals.invalid('Bad Request: Last-Event-ID is not one of ours');
  const own = session.standing?.stream;
  parts.streams.requireRoom(exchange.gate.caller, own?.isOpen === true && position?.kind !== 'p' ? 1 : 0);
  if (position?.kind === 'p') return resumeCall(parts, exchange, principal, { session, position });
  if (position) await resumeStanding(parts, exchange, principal, { session, position });
  else stand(parts, exchange, principal, session.openStanding());
  session.news.pass();
  const view = parts.views.for(principal, exchange.query);
  session.catchUp((uri) => findResource({ view, principal }, uri) !== undefined);
}

export async function serveDelete(
  parts: StreamParts,
  exchange: Exchange,
  principal: Principal,
  facts: Facts,
): Promise<void> {
  facts.era = 'legacy';
  const session = await requireSession(parts, exchange, principal);
  requireVersion(exchange);
  facts.session = session.hash;
  await parts.sessions.end(session);
  sendNothing(exchange, 200);
}

async function requireSession(
  { sessions }: StreamParts,
  exchange: Exchange,
  principal: Principal,
): Promise<Session> {
  const session = await findSession(sessions, exchange, principal);
  if (!session) throw refusals.noSession();
  return session;
}

function end({ reply }: Exchange): void {
  reply.writeHead(200, EVENT_HEADERS);
  reply.end();
}

/** A client has one standing stream; a newer one takes over, since the older may be dead without anyone knowing. */
function stand(parts: StreamParts, exchange: Exchange, principal: Principal, channel: Channel): void {
  channel.attach(openFor(parts, exchange, principal, { channel, isStanding: true }));
}

function openFor(
  { streams }: StreamParts,
  exchange: Exchange,
  principal: Principal,
  { channel, isStanding }: { channel: Channel | undefined; isStanding: boolean },
): EventStream {
  const stream: EventStream = streams.open(exchange, principal, () => channel?.lost(stream), isStanding);
  return stream;
}

interface Resumption {
  session: Session;
  position: Position;
}

/** What is left of the reply to a POST; live when the call still runs. */
async function resumeCall(
  parts: StreamParts,
  exchange: Exchange,
  principal: Principal,
  { session, position }: Resumption,
): Promise<void> {
  const call = runningCall(session, position.streamId);
  const channel = call?.reply.channel;
  const stream = openFor(parts, exchange, principal, { channel, isStanding: false });
  if (channel) await channel.resume(stream, position.sequence);
  else await replay(parts, stream, { session, position });
  // Finished in the meantime, so nothing else ends it.
  if (!runningCall(session, position.streamId)) stream.end();
}

function runningCall(session: Session, streamId: string): Call | undefined {
  for (const call of session.calls.values()) if (call.reply.channel?.streamId === streamId) return call;
  return undefined;
}

/** After a restart the standing stream has a new id; what is left of the old one comes first. */
async function resumeStanding(
  parts: StreamParts,
  exchange: Exchange,
  principal: Principal,
  { session, position }: Resumption,
): Promise<void> {
  const channel = session.openStanding();
  const stream = openFor(parts, exchange, principal, { channel, isStanding: true });
  if (channel.streamId === position.streamId) return channel.resume(stream, position.sequence);
  await replay(parts, stream, { session, position });
  await channel.resume(stream, 0);
}

async function replay(
  { eventLog }: StreamParts,
  stream: EventStream,
  { session, position: { streamId, sequence } }: Resumption,
): Promise<void> {
  await eventLog.settled();
  for await (const event of eventLog.after({ sessionId: session.id, streamId, sequence }))
    stream.event(event.message, `${streamId}.${event.sequence}`);
}
