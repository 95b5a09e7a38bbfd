/**
 * The name of an image, as Docker reads it, in one canonical form that the policy decides on and the engine gets.
 *
 * @see {@link https://pkg.go.dev/github.com/distribution/reference | distribution/reference}
 */
const MAX_REFERENCE = 512;
/** Docker's own: longer is refused by every registry. */
const MAX_REPOSITORY = 255;
const DEFAULT_REGISTRY = 'docker.io';

const REGISTRY =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** Would be read as the id of an image. */
const ID = /^(?:sha256:)?[0-9a-f]{64}$/;

export interface ImageReference {
  registry: string;
  repository: string;
  /** Absent beside a digest, which alone decides then. */
  tag: string | undefined;
  digest: string | undefined;
  /** `docker.io/library/nginx:latest`, `ghcr.io/owner/blog@sha256:…` */
  canonical: string;
}

/** Undefined for what is no reference by name: ids of images too, since no list of names could allow them. */
export function parseImageReference(text: string): ImageReference | undefined {
  if (text.length > MAX_REFERENCE || ID.test(text)) return undefined;
  const [beforeDigest = '', digest, ...more] = text.split('@');
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest))) return undefined;
  const { name, tag } = withoutTag(beforeDigest);
  if (tag !== undefined && !TAG.test(tag)) return undefined;
  const place = placeOf(name);
  if (!place) return undefined;
  const { registry, repository } = place;
  const kept = digest === undefined ? (tag ?? 'latest') : undefined;
  const end = digest === undefined ? `:${kept}` : `@${digest}`;
  return { registry, repository, tag: kept, digest, canonical: `${registry}/${repository}${end}` };
}

/** A colon before the last slash is that of a port. */
function withoutTag(text: string): { name: string; tag: string | undefined } {
  const colon = text.lastIndexOf(':');
  if (colon <= text.lastIndexOf('/')) return { name: text, tag: undefined };
  return { name: text.slice(0, colon), tag: text.slice(colon + 1) };
}

function placeOf(name: string): { registry: string; repository: string } | undefined {
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const hasRegistry = /[.:]/.test(first) || first === 'localhost';
  const written = hasRegistry ? first : DEFAULT_REGISTRY;
  const registry = written === 'index.docker.io' ? DEFAULT_REGISTRY : written.toLowerCase();
  const rest = hasRegistry ? name.slice(slash + 1) : name;
  const repository = registry === DEFAULT_REGISTRY && !rest.includes('/') ? `library/${rest}` : rest;
  const isValid =
    // Before it is lower case: other letters become those of ASCII then.
    REGISTRY.test(written) &&
    repository.length <= MAX_REPOSITORY &&
    repository.split('/').every((component) => COMPONENT.test(component));
  return isValid ? { registry, repository } : undefined;
}

/** `docker.io/library/*`, `ghcr.io/owner/**`: `*` is within one component, `**` is any number of them. */
const PATTERN = /^(?:[a-z0-9.:[\]-]+)\/(?:[a-z0-9._*-]+)(?:\/[a-z0-9._*-]+)*$/;

/** Why a text is no pattern of images; undefined when it is one. */
export function imagePatternFault(text: string): string | undefined {
  const [registry = ''] = text.split('/');
  return PATTERN.test(text) && REGISTRY.test(registry)
    ? undefined
    : 'has to be a registry and a repository such as docker.io/library/* or ghcr.io/owner/**, in lower case and without a tag';
}

export function matchesImage(pattern: string, { registry, repository }: ImageReference): boolean {
  const source = pattern
    .split('/')
    .map((part) => (part === '**' ? '.+' : part.split(/\*+/).map(escapeExpression).join('[^/]*')))
    .join('/');
  return new RegExp(`^${source}$`).test(`${registry}/${repository}`);
}

const escapeExpression = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|-]/g, String.raw`\$&`);
