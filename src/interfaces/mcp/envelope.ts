/**
 * The per-request envelope of the modern era, recognised where it is certainly valid. Anything unusual is left to the
 * SDK. @see MCP 2026-07-28, Base Protocol, `_meta`
 */
import { hasOnly, isOptional, isRecord, type JsonObject, META } from './message.ts';
import { MODERN_VERSION } from './settings.ts';

export function isPlainEnvelope(meta: JsonObject): boolean {
  return (
    meta[META.protocolVersion] === MODERN_VERSION &&
    isPlainCapabilities(meta[META.clientCapabilities]) &&
    isPlainClient(meta[META.clientInfo]) &&
    (meta[META.logLevel] === undefined || LOG_LEVELS.has(meta[META.logLevel]))
  );
}

const LOG_LEVELS: ReadonlySet<unknown> = new Set([
  'debug',
  'info',
  'notice',
  'warning',
  'error',
  'critical',
  'alert',
  'emergency',
]);

function isPlainClient(info: unknown): boolean {
  if (info === undefined) return true;
  if (!isRecord(info) || typeof info.name !== 'string' || typeof info.version !== 'string') return false;
  const { title, websiteUrl, description, icons } = info;
  return (
    isOptional(title, 'string') &&
    isOptional(websiteUrl, 'string') &&
    isOptional(description, 'string') &&
    (icons === undefined || (Array.isArray(icons) && icons.every(isPlainIcon)))
  );
}

const ICON_MEMBERS: ReadonlySet<string> = new Set(['src', 'mimeType']);

const isPlainIcon = (icon: unknown): boolean =>
  isRecord(icon) &&
  hasOnly(icon, ICON_MEMBERS) &&
  typeof icon.src === 'string' &&
  isOptional(icon.mimeType, 'string');

const CAPABILITIES: ReadonlySet<string> = new Set(['elicitation', 'sampling', 'roots', 'extensions']);
const FORMS: ReadonlySet<string> = new Set(['form', 'url']);
const SAMPLING: ReadonlySet<string> = new Set(['context', 'tools']);
const ROOTS: ReadonlySet<string> = new Set(['listChanged']);

function isPlainCapabilities(capabilities: unknown): boolean {
  if (!isRecord(capabilities) || !hasOnly(capabilities, CAPABILITIES)) return false;
  const { elicitation, sampling, roots, extensions } = capabilities;
  return (
    isMapOfEmpty(elicitation, FORMS) &&
    isMapOfEmpty(sampling, SAMPLING) &&
    (roots === undefined ||
      (isRecord(roots) && hasOnly(roots, ROOTS) && isOptional(roots.listChanged, 'boolean'))) &&
    (extensions === undefined || (isRecord(extensions) && Object.values(extensions).every(isRecord)))
  );
}

/** `{ form: {} }`: what today's clients say. An option inside is for the SDK to judge. */
const isMapOfEmpty = (value: unknown, members: ReadonlySet<string>): boolean =>
  value === undefined ||
  (isRecord(value) &&
    hasOnly(value, members) &&
    Object.values(value).every((inner) => isRecord(inner) && Object.keys(inner).length === 0));
