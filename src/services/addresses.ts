/**
 * Where the services are that targets of proxies and routes name: a table in memory, beside the snapshot. Fed by the
 * engine's events, with a look at everything at the start, after a gap, and once a minute; a container that ends is
 * forgotten at once. Asks no engine while nothing leads to a container. Called by the gateway (`placeOf`, `follow`), by
 * proxies and routes (`fault`), and by the service of this folder when it has changed something.
 */
import { MINUTE, SECOND, type Clock, type Timer } from '../core/clock.ts';
import { AppError, messageOf } from '../core/errors.ts';
import type { Log } from '../core/record.ts';
import { cleanText, ownWordsOf } from '../core/untrusted.ts';
import type { Place, ServiceTarget, Whereabouts } from '../proxies/target-url.ts';
import type { Container, ContainerEngine, EngineEvent } from './engine.ts';
import { followEvents, type Follower } from './follow-events.ts';
import { GENERATION_LABEL, SERVICE_LABEL } from './spec.ts';
import { type Found, type Led, LedPlace, targetFault } from './whereabouts.ts';

export const addressLimits = {
  /** What was known is believed for so long after the engine was last heard of; then nobody is sent there. */
  keepMs: 5 * SECOND,
  /** Until the engine is asked again, twice as long each time. */
  againMs: 100,
  longestAgainMs: SECOND,
  /** In case an event was lost. */
  everyMs: MINUTE,
  /** Whoever waits for an answer of the engine waits no longer. */
  waitMs: 2 * SECOND,
  /** Before what was prepared for a change is let go. */
  preparedMs: MINUTE,
  /** Ports of a service, before those that nothing leads to make room. */
  places: 32,
  /** Containers that are asked about at a time. */
  atOnce: 8,
} as const;

/** One after the other, for who waits: a container may start and end without rest. */
const MAX_LOOKS = 3;
/** After these it is where it was no more, or does not answer. */
const ENDS: ReadonlySet<string> = new Set(['die', 'stop', 'destroy', 'pause']);
const BEGINS: ReadonlySet<string> = new Set(['start', 'unpause']);

export interface AddressesOptions {
  readonly engine: Pick<ContainerEngine, 'list' | 'inspect' | 'events'>;
  /** The service of that name; undefined: there is none. */
  readonly find: (name: string) => Promise<Led | undefined>;
  readonly clock: Clock;
  readonly log: Log;
  /** Where the engine is, when that is not this machine. */
  readonly machine?: string | undefined;
}

interface Entry {
  readonly name: string;
  readonly places: Map<number | undefined, LedPlace>;
  led: Led | undefined;
  /** Its record is to be read (again). */
  isStale: boolean;
  found: Found | undefined;
  /** Something happened to it while it was asked about. */
  isInDoubt: boolean;
  preparedUntil: number;
}

type ContainerEntry = Entry & { led: Exclude<Led, { url: string }> };

/** What is to be asked about. */
interface Doubts {
  /** Everything. */
  all: boolean;
  /** Ids of containers. */
  readonly ids: Set<string>;
}

export class ServiceAddresses implements Whereabouts, AsyncDisposable {
  readonly #options: AddressesOptions;
  /** By name of the service. */
  readonly #entries = new Map<string, Entry>();
  /** Keys of the targets that are led to. */
  #wanted: ReadonlySet<string> = new Set();
  /** Runs while something is prepared. */
  #prepared: Timer | undefined;
  #doubts: Doubts = { all: true, ids: new Set() };
  #current: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #following:
    | { readonly stop: AbortController; readonly ended: Promise<void>; readonly timer: Timer }
    | undefined;
  /** Runs while the engine is not heard of. */
  #lost: Timer | undefined;
  #isToldLost = false;
  #again: Timer | undefined;
  /** One after the other, of the looks and of the events: an engine may answer and refuse its events. */
  readonly #failures = { looks: 0, events: 0 };
  #isClosed = false;
  readonly #follower: Follower = {
    seen: (event) => this.#seen(event),
    heard: () => this.#heard('events'),
    lost: (cause) => this.#lose(cause),
    backOff: () => this.#backOff('events'),
    afterGap: () => this.#lookAtAll(),
  };

  constructor(options: AddressesOptions) {
    this.#options = options;
  }

  placeOf(target: ServiceTarget): Place {
    return this.#entries.get(target.name)?.places.get(target.port) ?? nowhere;
  }

  follow(targets: readonly ServiceTarget[]): void {
    this.#wanted = new Set(targets.map(keyOf));
    this.#prune();
    const unknown = targets.filter((target) => this.#add(target));
    if (unknown.length > 0) void this.#look();
    else if (this.#entries.size === 0) void this.#unfollow();
  }

  /** Why it can't be a target; undefined: it can, and where it is has been asked, for who is served next. */
  async fault(target: ServiceTarget): Promise<string | undefined> {
    const led = await this.#options.find(target.name);
    const fault = targetFault(target, led);
    if (fault !== undefined) return fault;
    const isUnknown = this.#add(target);
    const entry = this.#entries.get(target.name);
    if (entry) this.#prepare(entry);
    if (isUnknown) await this.#within(this.#known());
    return undefined;
  }

  /** A service was changed here. */
  async changed(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    if (!entry) return;
    entry.isStale = true;
    if (entry.found) this.#doubts.ids.add(entry.found.id);
    await this.#within(this.#known());
  }

  /** What is followed has been looked for once, or the engine has been waited for long enough. */
  settled(): Promise<void> {
    return this.#within(this.#known());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#again?.cancel();
    this.#lost?.cancel();
    this.#prepared?.cancel();
    await Promise.all([this.#unfollow(), this.#current]);
  }

  /** True: where it is has to be looked for. */
  #add(target: ServiceTarget): boolean {
    const { name, port } = target;
    const known = this.#entries.get(name);
    const entry = known ?? newEntry(name);
    this.#entries.set(name, entry);
    if (entry.places.has(port)) return false;
    this.#makeRoom(entry);
    entry.places.set(port, new LedPlace(target, this.#options.machine));
    if (known && !known.isStale) lead(entry, notRunning(name));
    return !known;
  }

  #prepare(entry: Entry): void {
    const { clock } = this.#options;
    entry.preparedUntil = clock.now() + addressLimits.preparedMs;
    if (!this.#isClosed) this.#prepared ??= clock.after(addressLimits.preparedMs, () => this.#letGo());
  }

  /** What was prepared and never came. */
  #letGo(): void {
    this.#prepared = undefined;
    this.#prune();
    if (this.#entries.size === 0) void this.#unfollow();
    const until = Math.max(...[...this.#entries.values()].map(({ preparedUntil }) => preparedUntil));
    const { clock } = this.#options;
    const leftMs = until - clock.now();
    if (leftMs > 0) this.#prepared = clock.after(leftMs, () => this.#letGo());
  }

  #prune(): void {
    const now = this.#options.clock.now();
    for (const [name, { places, preparedUntil }] of this.#entries) {
      if (preparedUntil > now) continue;
      for (const port of places.keys()) if (!this.#wanted.has(keyOf({ name, port }))) places.delete(port);
      if (places.size === 0) this.#entries.delete(name);
    }
  }

  #makeRoom({ name, places }: Entry): void {
    if (places.size < addressLimits.places) return;
    const surplus = [...places.keys()].find((port) => !this.#wanted.has(keyOf({ name, port })));
    if (surplus !== undefined) places.delete(surplus);
  }

  /** Looks again where something happened in the middle of the look. */
  async #known(): Promise<void> {
    if (this.#entries.size === 0) return;
    for (let looks = 0; looks < MAX_LOOKS; looks++) {
      await this.#look();
      if (![...this.#entries.values()].some(({ isInDoubt }) => isInDoubt)) return;
    }
  }

  /** Resolves when a look that began after this call is over; one at a time. Never rejects. */
  #look(): Promise<void> {
    if (this.#next) return this.#next;
    const next = this.#current.then(() => {
      this.#next = undefined;
      return this.#lookOnce();
    });
    this.#next = next;
    this.#current = next;
    return next;
  }

  async #lookOnce(): Promise<void> {
    if (this.#isClosed) return;
    const doubts = this.#doubts;
    this.#doubts = { all: false, ids: new Set() };
    try {
      const entries = [...this.#entries.values()];
      for (const entry of entries) if (entry.isStale) await this.#read(entry);
      const contained = entries.filter(isContainer);
      if (contained.length === 0) {
        void this.#unfollow();
        return;
      }
      this.#startFollowing();
      await this.#ask(contained, doubts);
      this.#lost?.cancel();
      this.#lost = undefined;
      this.#heard('looks');
    } catch (cause) {
      this.#doubts.all ||= doubts.all;
      for (const id of doubts.ids) this.#doubts.ids.add(id);
      this.#lose(cause);
      this.#again ??= this.#options.clock.after(this.#backOff('looks'), () => {
        this.#again = undefined;
        void this.#look();
      });
    }
  }

  async #read(entry: Entry): Promise<void> {
    entry.isStale = false;
    try {
      entry.led = await this.#options.find(entry.name);
      if (!entry.led || 'url' in entry.led) lead(entry, '');
    } catch (cause) {
      // Its own fault: the others are looked for all the same.
      entry.led = undefined;
      for (const place of entry.places.values()) place.leave(ownWordsOf(cause));
    }
  }

  async #ask(entries: readonly ContainerEntry[], { all, ids }: Doubts): Promise<void> {
    const { engine } = this.#options;
    const running = await engine.list({ all: false });
    const current = currentById(running);
    const asked: [ContainerEntry, string][] = [];
    for (const entry of entries) {
      if ('container' in entry.led) {
        this.#findForeign(entry, entry.led.container, running);
        continue;
      }
      const id =
        current.get(currentKey(entry.led.id, String(entry.led.generation))) ??
        current.get(currentKey(entry.led.id));
      if (id === undefined) forget(entry);
      else if (all || ids.has(id) || entry.found?.id !== id) asked.push([entry, id]);
    }
    while (asked.length > 0)
      await Promise.all(asked.splice(0, addressLimits.atOnce).map(([entry, id]) => this.#inspect(entry, id)));
  }

  /** By the ports that it publishes: its networks are its owner's. */
  #findForeign(entry: Entry, id: string, running: readonly Container[]): void {
    // As below: what was listed may be old.
    if (this.#doubts.ids.has(id)) {
      entry.isInDoubt = true;
      return;
    }
    const found = running.find((one) => one.id === id && !one.managed && one.state === 'running');
    if (!found) return forget(entry);
    entry.found = { id, ports: found.ports, networks: [], replicas: undefined };
    entry.isInDoubt = false;
    lead(entry, '');
  }

  async #inspect(entry: Entry, id: string): Promise<void> {
    const found = await unlessGone(this.#options.engine.inspect(id));
    // Something happened to it meanwhile: what was answered is old. The look after this one knows better.
    if (this.#doubts.ids.has(id)) {
      entry.isInDoubt = true;
      return;
    }
    if (!found?.managed || !found.running) return forget(entry);
    entry.found = found;
    entry.isInDoubt = false;
    lead(entry, '');
  }

  #startFollowing(): void {
    if (this.#following) return;
    const stop = new AbortController();
    const timer = this.#options.clock.every(addressLimits.everyMs, () => this.#lookAtAll());
    this.#following = { stop, timer, ended: followEvents(this.#options, this.#follower, stop.signal) };
  }

  #unfollow(): Promise<void> | undefined {
    const following = this.#following;
    this.#following = undefined;
    following?.stop.abort();
    following?.timer.cancel();
    return following?.ended;
  }

  #lookAtAll(): void {
    this.#doubts.all = true;
    void this.#look();
  }

  #seen({ kind, action, containerId }: EngineEvent): void {
    const entry = [...this.#entries.values()].find(({ found }) => found?.id === containerId);
    const isEnd = kind === 'container' && ENDS.has(action);
    const isBegin = kind === 'container' ? BEGINS.has(action) : entry !== undefined;
    if (!isEnd && !isBegin) return;
    this.#doubts.ids.add(containerId);
    // Of replicas the others go on.
    const isOneOfSeveral = entry?.found?.replicas !== undefined;
    if (isEnd && entry && !isOneOfSeveral) forget(entry);
    if (isBegin || isOneOfSeveral) void this.#look();
  }

  #heard(what: 'looks' | 'events'): void {
    this.#failures[what] = 0;
    if (!this.#isToldLost || this.#failures.looks + this.#failures.events > 0) return;
    this.#isToldLost = false;
    this.#tell('info', 'the container engine answers again; services are where it says');
  }

  #lose(cause: unknown): void {
    if (this.#isClosed) return;
    const away = 'the container engine does not answer';
    // Told beside the settings of proxies and routes.
    const why = `${away}: ${ownWordsOf(cause)}`;
    const contained = () => [...this.#entries.values()].filter(isContainer);
    for (const entry of contained()) if (!entry.found) forget(entry, why);
    this.#lost ??= this.#options.clock.after(addressLimits.keepMs, () => {
      for (const entry of contained()) forget(entry, why);
    });
    if (this.#isToldLost) return;
    this.#isToldLost = true;
    this.#tell(
      'warn',
      `${away}: ${cleanText(messageOf(cause))}; after ${addressLimits.keepMs} ms nothing is sent to services until it does`,
    );
  }

  #backOff(what: 'looks' | 'events'): number {
    const { againMs, longestAgainMs } = addressLimits;
    return Math.min(longestAgainMs, againMs * 2 ** this.#failures[what]++);
  }

  #within(work: Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(addressLimits.waitMs, resolve);
    return Promise.race([work, promise]).finally(() => timer.cancel());
  }

  #tell(level: 'info' | 'warn', message: string): void {
    const { clock, log } = this.#options;
    log.write({ time: clock.now(), kind: 'system', level, component: 'services', message });
  }
}

const nowhere: Place = { stay: undefined, reason: 'nothing leads there any more' };
const keyOf = ({ name, port }: ServiceTarget): string => `${name}:${port ?? ''}`;
const notRunning = (name: string): string => `the service ${name} does not run`;
const isContainer = (entry: Entry): entry is ContainerEntry =>
  entry.led !== undefined && !('url' in entry.led);

const newEntry = (name: string): Entry => ({
  name,
  places: new Map(),
  led: undefined,
  isStale: true,
  found: undefined,
  isInDoubt: false,
  preparedUntil: 0,
});

function lead({ places, led, found }: Entry, reason: string): void {
  for (const place of places.values()) place.leadTo(led, found, reason);
}

function forget(entry: Entry, reason = notRunning(entry.name)): void {
  entry.found = undefined;
  entry.isInDoubt = false;
  lead(entry, reason);
}

const currentKey = (service = '', generation = ''): string => `${service} ${generation}`;

/** Only what was made here: labels of others are somebody's words. */
const currentById = (containers: readonly Container[]): Map<string, string> =>
  new Map(
    containers
      .filter(({ managed, state }) => managed && state === 'running')
      .map(({ id, labels, replicas }) => [
        // In a swarm one goes over into the next in its place: of whatever generation, it is the one.
        currentKey(labels[SERVICE_LABEL], replicas ? '' : labels[GENERATION_LABEL]),
        id,
      ]),
  );

async function unlessGone<Found>(asked: Promise<Found>): Promise<Found | undefined> {
  try {
    return await asked;
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'NOT_FOUND') return undefined;
    throw cause;
  }
}
