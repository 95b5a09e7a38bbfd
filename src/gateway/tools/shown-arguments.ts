/**
 * The arguments of a call as its audit record has them: what looks like a secret by its name or by itself is not
 * shown, long text and long lists are cut. Arguments are a stranger's, and what a target does with them is not known.
 */
import { limits } from '../../core/limits.ts';
import { redactText } from '../../core/redact.ts';
import { cleanText } from '../../core/untrusted.ts';
import { isRecord } from './messages.ts';
import { toolLimits } from './limits.ts';

const REDACTED = '[redacted]';
/** Anywhere in a name, in any spelling: `dbPassword`, `x-api-key`, `ACCESS_TOKEN`. Too many rather than too few. */
const SECRET_NAME =
  /pass(?:word|wd|phrase|code)?$|password|passwd|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|credential|authorization|^auth$|cookie|session|bearer|jwt|signature|otp$|^pin$|cvv|cvc|iban|card[-_.]?number|ssn|^pem$|_pem$/i;
/** Looked at for secrets; far more than is shown, so that none is cut in two and missed. */
const LOOKED_AT = 4096;

export function shownArguments(args: unknown): string | undefined {
  if (args === undefined) return undefined;
  return JSON.stringify(shown(args, 0, { left: limits.auditArguments })).slice(0, limits.auditArguments);
}

/** Characters that are still shown. What would be cut off in the end is not looked at. */
interface Budget {
  left: number;
}

function shown(value: unknown, depth: number, budget: Budget): unknown {
  if (budget.left <= 0) return '…';
  budget.left -= 1;
  if (typeof value === 'string') return spent(budget, shownText(value, toolLimits.shownString));
  if (typeof value !== 'object' || value === null) return value;
  if (depth === toolLimits.shownDepth) return '…';
  const { shownMembers } = toolLimits;
  if (Array.isArray(value)) {
    const items: readonly unknown[] = value;
    const first = items.slice(0, shownMembers).map((item) => shown(item, depth + 1, budget));
    return items.length > shownMembers ? [...first, `… ${items.length - shownMembers} more`] : first;
  }
  if (!isRecord(value)) return '…';
  const members = Object.entries(value);
  const first = members
    .slice(0, shownMembers)
    .map(([name, inner]) => [
      spent(budget, shownText(name, limits.shortText)),
      SECRET_NAME.test(name.normalize('NFKC')) ? REDACTED : shown(inner, depth + 1, budget),
    ]);
  const rest = members.length - shownMembers;
  return { ...Object.fromEntries(first), ...(rest > 0 && { '…': `${rest} more` }) };
}

function spent(budget: Budget, text: string): string {
  budget.left -= text.length;
  return text;
}

const shownText = (text: string, maxLength: number): string =>
  cleanText(redactText(text.slice(0, LOOKED_AT)), maxLength);
