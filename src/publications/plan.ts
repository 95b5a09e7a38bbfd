/** What a publication would do and what stands against it, found out without changing anything. */
import { AppError, type ErrorCode } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import { proxySettings } from '../proxies/schema.ts';
import { serviceName, type ServiceSettings, serviceSettings } from '../services/schema.ts';
import type { CertificateProspect, NewProxy, PublishingPorts, ServiceProspect } from './ports.ts';
import { containerInput, type PlannedStep, type PublishInput, type StepName } from './schema.ts';
import { portsFor } from './target.ts';

export interface Plan {
  readonly service: string;
  readonly settings: ServiceSettings;
  readonly proxy: Omit<NewProxy, 'target_url'>;
  /** Where its port is published. */
  readonly address: string;
  /** Undefined: what the image says is known when it is here. */
  readonly port: number | undefined;
  readonly newVolumes: readonly string[];
  readonly certificate: CertificateProspect;
  readonly steps: PlannedStep[];
  /** The first thing that stands against it, as the step itself would say it. */
  readonly refusal: AppError | undefined;
}

/** @throws AppError UNAVAILABLE without an engine, INVALID_INPUT for what can't be planned at all */
export async function planOf(
  input: PublishInput,
  by: { principal: Principal },
  ports: PublishingPorts,
  conflict: AppError | undefined,
): Promise<Plan> {
  if (input.hostname.startsWith('*.'))
    throw new AppError('INVALID_INPUT', 'hostname: one hostname, not a wildcard; create_proxy serves those');
  const service = nameFor(input);
  const address = await addressFor(ports);
  const asked = settingsOf(
    input,
    address instanceof AppError ? undefined : { port: input.port ?? ANY_PORT, address },
  );
  const found = await ports.services.prospect(service, asked);
  const port = portFor(input, found.imagePorts);
  const proxy = proxyOf(input);
  const certificate = ports.certificates.prospect(input.hostname, input.certificate);
  const problems = [
    { step: 'image', why: found.fault && new AppError('INVALID_INPUT', found.fault) },
    {
      step: 'service',
      why: found.takenBy
        ? new AppError(
            'CONFLICT',
            `name: there is a service ${service} already, ${found.takenBy}; give another name`,
          )
        : address instanceof AppError
          ? address
          : port instanceof AppError && port,
    },
    { step: 'proxy', why: conflict ?? (await refusalOf(() => ports.proxies.check(proxy, by))) },
    {
      step: 'protection',
      why: await refusalOf(async () => input.protection && ports.protection.check(input.protection)),
    },
  ].flatMap(({ step, why }) => (why instanceof AppError ? [{ step, why }] : []));
  const effects = effectsOf(input, { service, found, port, address, certificate });
  return {
    service,
    settings: asked,
    proxy,
    address: address instanceof AppError ? '' : address,
    port: port instanceof AppError ? undefined : port,
    newVolumes: found.newVolumes,
    certificate,
    steps: effects.map(([step, effect]) => {
      const problem = problems.find((one) => one.step === step)?.why.message;
      return { step, effect, ...(problem !== undefined && { problem }) };
    }),
    refusal: refusalFor(problems),
  };
}

/** All that is wrong at once, under the code of the first. */
function refusalFor(problems: readonly { step: string; why: AppError }[]): AppError | undefined {
  const [first] = problems;
  if (!first) return undefined;
  const text = problems.map(({ step, why }) => `${step}: ${why.message}`).join(' | ');
  const code: ErrorCode = first.why.code;
  return new AppError(code, `nothing was begun. ${text}`, { cause: first.why });
}

/** What is refused now, and would be when it is done; what fails for another reason is thrown. */
async function refusalOf(check: () => Promise<unknown>): Promise<AppError | undefined> {
  try {
    await check();
    return undefined;
  } catch (cause) {
    if (cause instanceof AppError && cause.code !== 'INTERNAL') return cause;
    throw cause;
  }
}

function nameFor({ name, hostname }: PublishInput): string {
  if (name !== undefined) return name;
  const [label = ''] = hostname.split('.');
  if (serviceName.safeParse(label).success) return label;
  throw new AppError(
    'INVALID_INPUT',
    `name: ${JSON.stringify(label)}, the first label of the hostname, can't be the name of a service; give one`,
  );
}

/** @param found of the image; undefined: it is not here. */
export function portFor(
  { port, image }: Pick<PublishInput, 'port' | 'image'>,
  found: readonly number[] | undefined,
): number | undefined | AppError {
  if (port !== undefined) return port;
  if (found === undefined) return undefined;
  const [only, ...more] = found;
  if (only !== undefined && more.length === 0) return only;
  const choices = found.length === 0 ? 'names none' : `names ${found.join(', ')}`;
  return new AppError(
    'INVALID_INPUT',
    `port: give the one that it listens at; the image ${image} ${choices}`,
  );
}

/** For what the policy says of an image that is not here yet: it asks where a port is published, not which. */
const ANY_PORT = 80;
const LOOPBACK = '127.0.0.1';

async function addressFor({ services }: PublishingPorts): Promise<string | AppError> {
  try {
    return await services.address();
  } catch (cause) {
    if (cause instanceof AppError) return cause;
    throw cause;
  }
}

/** @param at undefined: it can be published nowhere, and all else is asked about */
export const settingsOf = (
  input: PublishInput,
  at: { port: number; address: string } | undefined,
): ServiceSettings =>
  serviceSettings.parse({
    ...containerInput.parse(input),
    ports: at ? portsFor(at.port, at.address) : [],
  });

/** Disabled: it is enabled when its protection stands and its target answers. */
function proxyOf({ hostname, certificate }: PublishInput): Omit<NewProxy, 'target_url'> {
  const { target_url: _, ...settings } = proxySettings.parse({
    target_url: 'http://localhost',
    certificate,
    enabled: false,
  });
  return { ...settings, hostname };
}

interface Found {
  service: string;
  found: ServiceProspect;
  port: number | undefined | AppError;
  address: string | AppError;
  certificate: CertificateProspect;
}

function effectsOf(input: PublishInput, found: Found): [StepName, string][] {
  const { hostname, protection, check_path } = input;
  return [
    ['image', imageEffect(input, found.found)],
    ['service', serviceEffect(input, found)],
    ['proxy', `makes a proxy for ${hostname} that leads to it, wherever it runs; disabled for now`],
    [
      'protection',
      protection
        ? `lets only those through who are named (mode ${protection.mode}), before anything is served`
        : 'none: open to anyone',
    ],
    ['answer', `asks the service for ${check_path}, by the way that requests take`],
    ['enable', `serves https://${hostname}/; http:// is redirected`],
    ['certificate', certificateEffect(found.certificate)],
    [
      'verify',
      protection
        ? `asks for https://${hostname}${check_path} as a stranger, who has to be asked who they are`
        : `asks for https://${hostname}${check_path} as a visitor, who has to see the service's answer`,
    ],
  ];
}

function imageEffect({ image, pull }: PublishInput, { imagePorts }: ServiceProspect): string {
  if (pull === 'always') return `fetches ${image} from its registry; it stays, whatever comes of this`;
  if (imagePorts !== undefined) return `${image} is here`;
  return pull === 'never'
    ? `${image} is not here and would not be fetched (pull: never), so that this would fail`
    : `fetches ${image} from its registry; it stays, whatever comes of this`;
}

function serviceEffect({ volumes }: PublishInput, { service, found, port, address }: Found): string {
  const at = typeof port === 'number' ? `port ${port}` : 'the port that its image names';
  const named = volumes.flatMap(({ name }) => (name === undefined ? [] : [name]));
  const kept = named.filter((name) => !found.newVolumes.includes(name));
  return [
    `makes the service ${service}, listening inside at ${at}, and waits until it is up`,
    typeof address === 'string' &&
      address !== LOOPBACK &&
      `publishes that port at ${address} of the machine that it runs on, past this proxy: a firewall has to keep others away`,
    found.newVolumes.length > 0 && `makes the volumes ${found.newVolumes.join(', ')}`,
    kept.length > 0 && `mounts ${kept.join(', ')}, which are there and stay`,
  ]
    .filter((part) => part !== false)
    .join('; ');
}

function certificateEffect(certificate: CertificateProspect): string {
  switch (certificate.kind) {
    case 'there':
      return `${certificate.id} is there and is served`;
    case 'ordered':
      return `orders one from ${certificate.issuer}, and waits for it`;
    case 'internal':
      return `one of the CA of this system, which browsers do not trust: ${certificate.why}`;
  }
}
