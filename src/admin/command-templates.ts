/**
 * Commands that the settings name: a program and its arguments, with places that the caller fills. A value is a part of
 * one argument, of a type and a pattern that the settings say; it never is an option where they do not say so. Each is
 * a permission of its own, `commands:run:NAME`. Read by `config`, run by `run-command`.
 */
import { z } from 'zod';
import { AppError } from '../core/errors.ts';
import { commandPermission, type Permission } from '../core/permissions.ts';
import { cleanText } from '../core/untrusted.ts';
import { MAX_ARGUMENT, patternFault, programFault, wholeMatch } from './allow-list.ts';
import { hasInvisible } from './argv.ts';

const MAX_TEMPLATES = 200;
const MAX_ARGUMENTS = 100;
const MAX_PARAMETERS = 20;
const MAX_VALUES = 200;
const MAX_DESCRIPTION = 300;
const MAX_TIMEOUT_MS = 3_600_000;
const MAX_NAME = 63;
/** Characters of a value that is repeated to its caller. */
const MAX_SHOWN = 60;
export const REDACTED = '[redacted]';

const PLACE = /\{([a-z][a-z0-9_]*)\}/g;

const fault = (faultIn: (text: string) => string | undefined) =>
  z.check<string>(({ value, issues }) => {
    const message = faultIn(value);
    if (message !== undefined) issues.push({ code: 'custom', input: value, message });
  });
const text = z.string().max(MAX_ARGUMENT);
const description = z.string().max(MAX_DESCRIPTION).optional();
const common = {
  required: z.boolean().default(true).describe('false: the argument it stands in is left out without it'),
  description: description.describe('For whoever fills it in'),
  secret: z.boolean().default(false).describe('Never in a log'),
  may_be_option: z.boolean().default(false).describe('Whether an argument may begin with - by its value'),
};

const parameterSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('string'),
    pattern: text.check(fault(patternFault)).describe('Regular expression that the whole value has to match'),
    default: text.optional(),
    ...common,
  }),
  z.strictObject({
    type: z.literal('integer'),
    min: z.int().optional(),
    max: z.int().optional(),
    default: z.int().optional(),
    ...common,
  }),
  z.strictObject({ type: z.literal('boolean'), default: z.boolean().optional(), ...common }),
  z.strictObject({
    type: z.literal('enum'),
    values: z.array(text.min(1)).min(1).max(MAX_VALUES),
    default: text.optional(),
    ...common,
  }),
]);
type ParameterRule = z.output<typeof parameterSchema>;

const templateSchema = z
  .strictObject({
    argv: z
      .array(text)
      .min(1)
      .max(MAX_ARGUMENTS)
      .describe('Program, looked up in a fixed PATH, and arguments; {name} is the place of a parameter'),
    parameters: z
      .record(
        z
          .string()
          .max(MAX_NAME)
          .regex(/^[a-z][a-z0-9_]*$/),
        parameterSchema,
      )
      .refine((all) => Object.keys(all).length <= MAX_PARAMETERS, `at most ${MAX_PARAMETERS}`)
      .default({})
      .describe('What the caller fills in'),
    description: description.describe('What it does, for whoever may run it'),
    confirm: z.boolean().default(false).describe('Whether a person is asked first, where the client can'),
    timeout_ms: z.int().min(1).max(MAX_TIMEOUT_MS).optional().describe('Instead of commands.timeout_ms'),
  })
  .check(({ value, issues }) => {
    const wrong = templateFault(value);
    if (wrong) issues.push({ code: 'custom', input: value, path: [...wrong.path], message: wrong.message });
  });
type TemplateRule = z.output<typeof templateSchema>;

/** A label of DNS, so that `commands:run:NAME` is a scope of OAuth. */
const templateName = z
  .string()
  .max(MAX_NAME)
  .regex(/^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/, 'has to be lower-case letters, digits and -');

export const templatesSchema = z
  .record(templateName, templateSchema)
  .refine((all) => Object.keys(all).length <= MAX_TEMPLATES, `at most ${MAX_TEMPLATES}`)
  .default({})
  .describe(
    'Commands by name, with typed parameters, for run_command; each takes the permission commands:run:NAME',
  );
export type TemplateRules = z.output<typeof templatesSchema>;

const placesIn = (argument: string): string[] => [...argument.matchAll(PLACE)].map(([, name = '']) => name);

function templateFault({ argv, parameters }: TemplateRule) {
  const [program = '', ...args] = argv;
  const wrong = programFault(program);
  if (wrong !== undefined) return { path: ['argv', 0], message: wrong };
  for (const [index, argument] of args.entries()) {
    const unknown = placesIn(argument).find((name) => !Object.hasOwn(parameters, name));
    if (unknown !== undefined)
      return { path: ['argv', index + 1], message: `{${unknown}} is not among its parameters` };
  }
  const used = new Set(args.flatMap(placesIn));
  for (const [name, rule] of Object.entries(parameters)) {
    const path = ['parameters', name];
    if (!used.has(name)) return { path, message: `no argument has the place {${name}}` };
    const why = rule.default === undefined ? undefined : valueFault(rule, rule.default);
    if (why !== undefined) return { path: [...path, 'default'], message: why };
  }
  return undefined;
}

export type Value = string | number | boolean;

/** Why a value can't be that of a parameter; undefined when it can. */
function valueFault(rule: ParameterRule, value: Value): string | undefined {
  switch (rule.type) {
    case 'string':
      return textFault(rule.pattern, value);
    case 'integer':
      return isWithin(rule, value) ? undefined : `has to be ${meaningOf(rule)}`;
    case 'boolean':
      return typeof value === 'boolean' ? undefined : 'has to be true or false';
    case 'enum':
      return rule.values.some((known) => known === value) ? undefined : `has to be ${meaningOf(rule)}`;
  }
}

function textFault(pattern: string, value: Value): string | undefined {
  if (typeof value !== 'string') return 'has to be text';
  if (value.length > MAX_ARGUMENT) return `has to have at most ${MAX_ARGUMENT} characters`;
  if (hasInvisible(value)) return 'may have no control or invisible character';
  return wholeMatch(pattern, 'pattern').test(value) ? undefined : `has to match ${pattern}`;
}

const isWithin = ({ min, max }: ParameterRule & { type: 'integer' }, value: Value): boolean =>
  typeof value === 'number' &&
  Number.isSafeInteger(value) &&
  value >= (min ?? value) &&
  value <= (max ?? value);

/** What a value has to be, in a few words. */
function meaningOf(rule: ParameterRule): string {
  switch (rule.type) {
    case 'string':
      return `text that matches ${rule.pattern}`;
    case 'integer': {
      const { min, max } = rule;
      const bounds = [min !== undefined && `at least ${min}`, max !== undefined && `at most ${max}`];
      return ['a whole number', ...bounds.filter((bound) => bound !== false)].join(', ');
    }
    case 'boolean':
      return 'true or false';
    case 'enum':
      return `one of ${rule.values.join(', ')}`;
  }
}

export interface FilledCommand {
  argv: [program: string, ...args: string[]];
  /** The same for a log. */
  shown: readonly string[];
  /** Absent: that of every command. */
  timeoutMs?: number | undefined;
}

export interface CommandTemplate {
  readonly name: string;
  readonly permission: Permission;
  readonly description: string | undefined;
  readonly confirm: boolean;
  readonly parameters: readonly { name: string; is: string; required: boolean; description?: string }[];
  /** @throws AppError INVALID_INPUT that names the parameter */
  fill(given: Readonly<Record<string, Value>>): FilledCommand;
}

export function createTemplates(rules: TemplateRules): readonly CommandTemplate[] {
  return Object.entries(rules).map(([name, rule]) => ({
    name,
    permission: commandPermission(name),
    description: rule.description,
    confirm: rule.confirm,
    parameters: Object.entries(rule.parameters).map(([parameter, one]) => ({
      name: parameter,
      is:
        one.default === undefined || one.secret
          ? meaningOf(one)
          : `${meaningOf(one)}; default ${one.default}`,
      required: isRequired(one),
      ...(one.description !== undefined && { description: one.description }),
    })),
    fill: (given) => fill(name, rule, given),
  }));
}

const isRequired = (rule: ParameterRule): boolean => rule.required && rule.default === undefined;

function fill(name: string, rule: TemplateRule, given: Readonly<Record<string, Value>>): FilledCommand {
  const { parameters } = rule;
  const values = valuesOf(name, parameters, given);
  const wrong = (parameter: string, why: string) => refusal(name, parameters, `${parameter} ${why}`);
  const [program = '', ...places] = rule.argv;
  const args: string[] = [];
  const shown: string[] = [];
  for (const place of places) {
    const names = placesIn(place);
    if (names.some((one) => !values.has(one))) continue;
    const put = (hide: boolean) =>
      place.replace(PLACE, (_, one: string) =>
        hide && parameters[one]?.secret === true ? REDACTED : String(values.get(one)),
      );
    const argument = put(false);
    const first = names.find((one) => parameters[one]?.may_be_option !== true);
    if (argument.startsWith('-') && !place.startsWith('-') && first !== undefined)
      throw wrong(first, 'may not make an option of its argument: it would begin with -');
    args.push(argument);
    shown.push(put(true));
  }
  return { argv: [program, ...args], shown: [program, ...shown], timeoutMs: rule.timeout_ms };
}

/** Those that were given or have a default. */
function valuesOf(
  name: string,
  parameters: TemplateRule['parameters'],
  given: Readonly<Record<string, Value>>,
): ReadonlyMap<string, Value> {
  const unknown = Object.keys(given).filter((one) => !Object.hasOwn(parameters, one));
  if (unknown.length > 0)
    throw refusal(name, parameters, `there is no parameter ${cleanText(unknown.join(', '), MAX_SHOWN)}`);
  const values = new Map<string, Value>();
  for (const [parameter, rule] of Object.entries(parameters)) {
    const value = Object.hasOwn(given, parameter) ? given[parameter] : rule.default;
    if (value === undefined) {
      if (isRequired(rule)) throw refusal(name, parameters, `${parameter} is missing`);
      continue;
    }
    const why = valueFault(rule, value);
    if (why !== undefined) throw refusal(name, parameters, `${parameter} ${why}${found(rule, value)}`);
    values.set(parameter, value);
  }
  return values;
}

const found = ({ secret }: ParameterRule, value: Value): string =>
  secret ? '' : `; found ${JSON.stringify(typeof value === 'string' ? cleanText(value, MAX_SHOWN) : value)}`;

function refusal(name: string, parameters: TemplateRule['parameters'], what: string): AppError {
  const takes = Object.entries(parameters).map(
    ([parameter, rule]) => `${parameter} (${meaningOf(rule)}${isRequired(rule) ? '' : ', optional'})`,
  );
  return new AppError(
    'INVALID_INPUT',
    `parameters: ${what}; ${name} takes ${takes.length > 0 ? takes.join(', ') : 'none'}`,
  );
}
