/** The values and options of one command, from the fields of its operation and back into its input. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Argument, type Command, Option } from 'commander';
import { AppError, messageOf } from '../../core/errors.ts';
import type { AnyOperation } from '../../core/operation.ts';
import { type Arguments, type Field, fromStrings, type JsonSchema } from '../arguments.ts';
import type { CliIo } from './io.ts';
import { readAll } from './prompt.ts';

const WHEN_FALSE = 'false: ';

/** `create_proxy` is typed `create proxy`; `set_log_level` is typed `set log-level`. */
export function commandWordsOf({
  name,
}: Pick<AnyOperation, 'name'>): [verb: string, noun: string | undefined] {
  const [verb = '', ...noun] = name.split('_');
  return [verb, noun.length > 0 ? noun.join('-') : undefined];
}

export const optionNameOf = (field: Field): string => `--${field.name.replaceAll('_', '-')}`;

const isBoolean = ({ kinds }: Field): boolean => kinds.size === 1 && kinds.has('boolean');

/** Typed without a name: what the path needs, then what else is required and fits in one word. */
export function positionalsOf({ fields }: Arguments): Field[] {
  return fields.filter(
    (field) =>
      field.place === 'path' ||
      (field.required &&
        !field.secret &&
        !isBoolean(field) &&
        !field.kinds.has('array') &&
        !field.kinds.has('object')),
  );
}

export function optionsOf(args: Arguments): Field[] {
  const positionals = new Set(positionalsOf(args));
  return args.fields.filter((field) => !positionals.has(field));
}

export function addArguments(command: Command, args: Arguments): void {
  for (const field of positionalsOf(args))
    command.addArgument(new Argument(`<${field.name}>`, helpOf(field)));
  for (const field of optionsOf(args)) {
    if (isBoolean(field)) {
      for (const option of switchesOf(field)) command.addOption(option);
    } else {
      const option = new Option(`${optionNameOf(field)} <${placeholderOf(field)}>`, helpOf(field));
      option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
      command.addOption(field.required ? option.makeOptionMandatory() : option);
    }
  }
}

/** Both always work; help shows the one that changes something. */
function switchesOf(field: Field): Option[] {
  const on = new Option(optionNameOf(field), helpOf(field));
  const off = new Option(optionNameOf(field).replace('--', '--no-'), offHelpOf(field));
  const usual = field.schema.default;
  return [on.hideHelp(usual === true), off.hideHelp(usual === false)];
}

/** Some fields say what false means, and only that. */
const offHelpOf = ({ description }: Field): string =>
  description.startsWith(WHEN_FALSE) ? description.slice(WHEN_FALSE.length) : `turns off: ${description}`;

/** The names to offer while a person types. */
export function flagsOf(field: Field): string[] {
  const shown = isBoolean(field) ? switchesOf(field).filter(({ hidden }) => !hidden) : [];
  return shown.length > 0 ? shown.map(({ flags }) => flags) : [optionNameOf(field)];
}

function placeholderOf({ kinds, secret }: Field): string {
  if (secret) return '@file';
  if (kinds.has('array')) return 'list';
  if (kinds.has('object')) return 'json';
  return kinds.has('number') ? 'number' : 'text';
}

function helpOf({ description, choices, kinds, schema, secret }: Field): string {
  const keys = keysOf(schema);
  const notes = [
    ...(choices ? [`one of: ${choices.join(', ')}`] : []),
    ...(kinds.has('array') ? ['repeat, or separate by commas'] : []),
    ...(keys.length > 0 ? [`JSON with ${keys.join(', ')}`] : []),
    ...(secret ? ['secret: @file, or @- for standard input'] : []),
    ...('default' in schema ? [`default: ${JSON.stringify(schema.default)}`] : []),
  ];
  return notes.length > 0 ? `${description} (${notes.join('; ')})` : description;
}

/** Of the object that a field holds, or may hold beside null. */
function keysOf({ properties, anyOf }: JsonSchema): string[] {
  const object = properties ?? (anyOf as JsonSchema[] | undefined)?.find((one) => one.properties)?.properties;
  return Object.keys((object ?? {}) as object);
}

/** The input as it was typed, with the types the schema asks for; `parseInput` says whether it is right. */
export async function readArguments(
  command: Command,
  args: Arguments,
  io: CliIo,
): Promise<Record<string, unknown>> {
  const input: Record<string, unknown> = {};
  for (const [index, field] of positionalsOf(args).entries()) {
    const value = command.args[index];
    if (value !== undefined) input[field.name] = await valueOf(field, [value], io);
  }
  const options = command.opts<Record<string, string[] | boolean | undefined>>();
  for (const field of optionsOf(args)) {
    const value = options[attributeOf(field)];
    if (typeof value === 'boolean') input[field.name] = value;
    else if (value !== undefined) input[field.name] = await valueOf(field, value, io);
  }
  return input;
}

const attributeOf = (field: Field): string => new Option(optionNameOf(field)).attributeName();

async function valueOf(field: Field, typed: readonly string[], io: CliIo): Promise<unknown> {
  if (!field.kinds.has('array') && typed.length > 1)
    throw new AppError('INVALID_INPUT', `${optionNameOf(field)}: given ${typed.length} times; give it once`);
  const values: string[] = [];
  for (const text of typed) values.push(await expand(field, text, io));
  return fromStrings(field, splitsAtCommas(field) ? values.flatMap(split) : values);
}

const splitsAtCommas = ({ kinds, itemKinds }: Field): boolean =>
  kinds.has('array') && !itemKinds.has('object');

const split = (text: string): string[] =>
  text.startsWith('[') || text === 'null'
    ? [text]
    : text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== '');

/** `@path` is the content of a file, `@-` standard input, `@@x` the text `@x`. */
async function expand(field: Field, text: string, io: CliIo): Promise<string> {
  if (text.startsWith('@@')) return text.slice(1);
  if (text === '@-') return await readAll(io.stdin);
  if (text.startsWith('@')) return readText(field, resolve(io.cwd, text.slice(1)));
  if (field.secret)
    throw new AppError(
      'INVALID_INPUT',
      `${optionNameOf(field)}: other users of this machine can see what is typed here; pass @file, or @- for standard input`,
    );
  return text;
}

function readText(field: Field, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AppError('INVALID_INPUT', `${optionNameOf(field)}: ${messageOf(cause)}`, { cause });
  }
}
