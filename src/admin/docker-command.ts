/**
 * `docker …` in `run_command`: another spelling of operations, each by the gate and with the permission of its own. The
 * program of that name is never started: who may talk to the engine by it is past every policy.
 */
import { z } from 'zod';
import { AppError } from '../core/errors.ts';

export const DOCKER = 'docker';
/** Lists are read page by page, up to so many pages. */
const MAX_PAGES = 20;
/** Services whose use is asked one after the other. */
const MAX_STATS = 50;
const COLUMN_GAP = 3;
const MIB = 1024 * 1024;

/** Runs the operation of that name for the caller. @throws AppError as the operation does. */
export type Operate = (name: string, input: Readonly<Record<string, unknown>>) => Promise<unknown>;

interface Subcommand {
  usage: string;
  /** Undefined: the arguments are not those of the usage. */
  run(args: readonly string[], operate: Operate): Promise<string> | undefined;
}

const port = z.object({
  container_port: z.number(),
  protocol: z.string(),
  host_address: z.string().optional(),
  host_port: z.number().optional(),
});
const servicesSchema = z.object({
  services: z.array(
    z.object({
      id: z.string().optional(),
      name: z.string(),
      image: z.string(),
      state: z.string(),
      status: z.string(),
      managed: z.boolean(),
      ports: z.array(port),
    }),
  ),
  next_cursor: z.string().optional(),
});
type Row = z.output<typeof servicesSchema>['services'][number];
const imagesSchema = z.object({
  images: z.array(z.object({ id: z.string(), references: z.array(z.string()), size_bytes: z.number() })),
});
const logsSchema = z.object({ lines: z.array(z.object({ text: z.string() })) });
const statsSchema = z.object({
  cpu_percent: z.number(),
  memory_bytes: z.number(),
  memory_limit_bytes: z.number().optional(),
  pids: z.number(),
});
const pulledSchema = z.object({ image: z.string(), id: z.string() });
const healthSchema = z.object({
  components: z.array(z.object({ name: z.string(), status: z.string(), message: z.string().optional() })),
});

/** A name of a service; what begins with - is an option. */
const isName = (text: string | undefined): text is string => text !== undefined && !text.startsWith('-');

const subcommands: Readonly<Record<string, Subcommand>> = {
  ps: {
    usage: 'docker ps [-a] [-q]',
    run(args, operate) {
      const flags = flagsOf(args, { a: '--all', q: '--quiet' });
      return flags && listed(operate, { all: flags.has('a'), quiet: flags.has('q') });
    },
  },
  images: {
    usage: 'docker images',
    run: (args, operate) => (args.length === 0 ? images(operate) : undefined),
  },
  logs: {
    usage: 'docker logs [--tail N] NAME',
    run(args, operate) {
      const { tail, rest } = tailOf(args);
      const [name, ...more] = rest;
      return isName(name) && more.length === 0 ? logs(operate, name, tail) : undefined;
    },
  },
  inspect: {
    usage: 'docker inspect NAME',
    run([name, ...more], operate) {
      if (!isName(name) || more.length > 0) return undefined;
      return operate('get_service', { name }).then((found) => `${JSON.stringify(found, null, 2)}\n`);
    },
  },
  stats: {
    usage: 'docker stats --no-stream [NAME]…',
    run(args, operate) {
      const names = args.filter((argument) => argument !== '--no-stream');
      return names.length < args.length && names.every(isName) ? stats(operate, names) : undefined;
    },
  },
  start: changing('start'),
  stop: changing('stop'),
  restart: changing('restart'),
  pull: {
    usage: 'docker pull IMAGE',
    run([image, ...more], operate) {
      if (!isName(image) || more.length > 0) return undefined;
      return operate('pull_image', { image }).then((found) => {
        const { image: pulled, id } = pulledSchema.parse(found);
        return `${pulled}\n${id}\n`;
      });
    },
  },
  version: {
    usage: 'docker version',
    run: (args, operate) => (args.length === 0 ? version(operate) : undefined),
  },
};

export const dockerUsages: readonly string[] = Object.values(subcommands).map(({ usage }) => usage);

/** What does the same, for who writes another of Docker's own. */
const instead: Readonly<Record<string, string>> = {
  run: 'create_service',
  create: 'create_service',
  container: 'list_services',
  rm: 'delete_service',
  kill: 'stop_service',
  update: 'update_service',
  system: 'clean_up_services',
  rmi: 'clean_up_services',
  volume: 'clean_up_services',
  network: 'create_service (networks)',
  top: 'get_service_stats',
  port: 'get_service',
  info: 'health_check',
};

/** @throws AppError FORBIDDEN with what there is, and with the operation to use; as the operation does. */
export async function runDocker(args: readonly string[], operate: Operate): Promise<string> {
  const [name = '', ...rest] = args;
  const known = Object.hasOwn(subcommands, name) ? subcommands[name] : undefined;
  const running = known?.run(rest, operate);
  if (running !== undefined) return running;
  const allowed = known ? [known.usage] : dockerUsages;
  const use = Object.hasOwn(instead, name) ? `; use the operation ${instead[name]}` : '';
  const what = known
    ? `docker ${name} is not allowed with these arguments`
    : 'docker is not allowed with these arguments';
  throw new AppError(
    'FORBIDDEN',
    `command: ${what}; it is answered by operations, within the policy of the settings${use}; allowed: ${allowed.join(' | ')}`,
    { details: { allowed } },
  );
}

function changing(verb: 'start' | 'stop' | 'restart'): Subcommand {
  return {
    usage: `docker ${verb} NAME`,
    run([name, ...more], operate) {
      if (!isName(name) || more.length > 0) return undefined;
      return operate(`${verb}_service`, { name }).then(() => `${name}\n`);
    },
  };
}

/** Letters of the flags that are set; undefined when there is anything else. */
function flagsOf(args: readonly string[], known: Readonly<Record<string, string>>): Set<string> | undefined {
  const letters = args.flatMap((argument) => {
    const long = Object.keys(known).find((letter) => known[letter] === argument);
    if (long !== undefined) return [long];
    return /^-[a-z]+$/.test(argument) ? argument.slice(1).split('') : ['?'];
  });
  return letters.every((letter) => Object.hasOwn(known, letter)) ? new Set(letters) : undefined;
}

function tailOf(args: readonly string[]): { tail: number | undefined; rest: readonly string[] } {
  const [first = '', second = '', ...rest] = args;
  const joined = /^--tail=(\d{1,6})$/.exec(first)?.[1];
  if (joined !== undefined) return { tail: Number(joined), rest: args.slice(1) };
  if ((first === '--tail' || first === '-n') && /^\d{1,6}$/.test(second))
    return { tail: Number(second), rest };
  return { tail: undefined, rest: args };
}

async function servicesOf(operate: Operate): Promise<Row[]> {
  const rows: Row[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const found = servicesSchema.parse(
      await operate('list_services', cursor === undefined ? {} : { cursor }),
    );
    rows.push(...found.services);
    cursor = found.next_cursor;
    if (cursor === undefined) break;
  }
  return rows;
}

async function listed(operate: Operate, { all, quiet }: { all: boolean; quiet: boolean }): Promise<string> {
  const rows = (await servicesOf(operate)).filter(({ state }) => all || state === 'running');
  if (quiet) return rows.map(({ id = '' }) => `${id}\n`).join('');
  return table(
    ['CONTAINER ID', 'IMAGE', 'STATUS', 'PORTS', 'NAMES'],
    rows.map(({ id = '-', image, status, ports, name }) => [
      id,
      image,
      status,
      ports.map(portText).join(', '),
      name,
    ]),
  );
}

function portText({ container_port, protocol, host_address, host_port }: z.output<typeof port>): string {
  const inside = `${container_port}/${protocol}`;
  return host_port === undefined ? inside : `${host_address ?? ''}:${host_port}->${inside}`;
}

async function images(operate: Operate): Promise<string> {
  const found = imagesSchema.parse(await operate('list_images', {}));
  return table(
    ['IMAGE', 'IMAGE ID', 'SIZE'],
    found.images.map(({ id, references, size_bytes }) => [
      references.join(', ') || '<none>',
      id,
      mebibytes(size_bytes),
    ]),
  );
}

async function logs(operate: Operate, name: string, tail: number | undefined): Promise<string> {
  const found = await operate('get_service_logs', { name, ...(tail !== undefined && { tail }) });
  return logsSchema
    .parse(found)
    .lines.map(({ text }) => `${text}\n`)
    .join('');
}

async function stats(operate: Operate, named: readonly string[]): Promise<string> {
  const names =
    named.length > 0
      ? named
      : (await servicesOf(operate))
          .filter(({ managed, state }) => managed && state === 'running')
          .map(({ name }) => name);
  const rows: string[][] = [];
  for (const name of names.slice(0, MAX_STATS)) {
    const found = statsSchema.parse(await operate('get_service_stats', { name }));
    const { cpu_percent, memory_bytes, memory_limit_bytes: limit, pids } = found;
    const memory = [memory_bytes, ...(limit === undefined ? [] : [limit])].map(mebibytes).join(' / ');
    rows.push([name, `${cpu_percent.toFixed(2)}%`, memory, String(pids)]);
  }
  return table(['NAME', 'CPU %', 'MEM USAGE / LIMIT', 'PIDS'], rows);
}

async function version(operate: Operate): Promise<string> {
  const { components } = healthSchema.parse(await operate('health_check', {}));
  const engine = components.find(({ name }) => name === 'container_engine');
  return `${engine?.message ?? `container engine: ${engine?.status ?? 'unknown'}`}\n`;
}

const mebibytes = (bytes: number): string => `${(bytes / MIB).toFixed(1)}MiB`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd((widths[column] ?? 0) + COLUMN_GAP))
      .join('')
      .trimEnd();
  return `${all.map(line).join('\n')}\n`;
}
