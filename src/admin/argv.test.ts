import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { suite } from 'node:test';
import fc from 'fast-check';
import { AppError } from '../core/errors.ts';
import { MAX_COMMAND, parseArgv } from './argv.ts';

const refused = (command: string, message: RegExp) =>
  assert.throws(
    () => parseArgv(command),
    (error) => error instanceof AppError && error.code === 'INVALID_INPUT' && message.test(error.message),
    JSON.stringify(command),
  );

suite('quoting means what it means in a POSIX shell', () => {
  const cases: [string, string[]][] = [
    ['df -h', ['df', '-h']],
    ['  df \t -h  ', ['df', '-h']],
    [`printf '%s' 'a b'`, ['printf', '%s', 'a b']],
    [`printf "a b" c" d"`, ['printf', 'a b', 'c d']],
    [`a '' ""`, ['a', '', '']],
    [`a \\ b\\|c`, ['a', ' b|c']],
    [`a "\\$HOME \\" \\\\ \\x"`, ['a', '$HOME " \\ \\x']],
    [`a '$HOME \`x\` | ; \\'`, ['a', '$HOME `x` | ; \\']],
    ['a b#c d~e', ['a', 'b#c', 'd~e']],
    ['dig müller.example.com', ['dig', 'müller.example.com']],
  ];
  for (const [command, argv] of cases) test(command, () => assert.deepEqual(parseArgv(command), argv));
});

suite('what only a shell acts on is refused, with its place', () => {
  const acts = ['|', '&', ';', '<', '>', '(', ')', '$', '`', '*', '?', '[', ']', '{', '}'];
  for (const char of acts)
    test(`unquoted ${char}`, () => {
      refused(`df${char}x`, /at character 3, which only a shell acts on; there is no shell/);
      assert.deepEqual(parseArgv(`df '${char}' \\${char}`), ['df', char, char]);
    });
  test('expansion inside double quotes', () => {
    refused('df "$HOME"', /\$ at character 5/);
    refused('df "`id`"', /` at character 5/);
  });
  test('a home directory or a comment at the start of a word', () => {
    refused('df ~', /~ at character 4/);
    refused('df # x', /# at character 4/);
  });
  test('line ends, also in quotes', () => {
    refused('df\nid', /line end \(character 3\)/);
    refused("df 'a\r\nb'", /line end \(character 6\)/);
  });
  test('control and invisible characters, also in quotes', () => {
    for (const char of ['\0', '\x1b', '\x7f', '\u009b', '\u202e', '\u200b', '\u{e0041}', '\ud800'])
      refused(`df 'a${char}'`, /control or invisible character \(character 6\)/);
  });
});

test('what is not closed, too long or empty is refused with what to do', () => {
  refused("df 'a", /opens a ' at character 4 that is not closed/);
  refused('df "a', /opens a " at character 4 that is not closed/);
  refused('df "a\\"', /not closed/);
  refused('df \\', /ends in a backslash \(character 4\)/);
  refused('   ', /names no program/);
  refused("''", /names no program/);
  refused('a'.repeat(MAX_COMMAND + 1), /longer than 2000 characters/);
  refused('a '.repeat(101), /more than 100 arguments/);
});

const anyText = fc.string({ unit: 'grapheme-ascii', minLength: 0, maxLength: 20 });

test('property: any printable argument can be passed, in each way of quoting', () => {
  const quotings = [
    (text: string) => `'${text.replaceAll("'", `'\\''`)}'`,
    (text: string) => `"${text.replaceAll(/["$`\\]/g, String.raw`\$&`)}"`,
    (text: string) => (text === '' ? '""' : text.replaceAll(/[^A-Za-z0-9]/g, String.raw`\$&`)),
  ];
  fc.assert(
    fc.property(fc.array(fc.tuple(anyText, fc.constantFrom(...quotings)), { maxLength: 20 }), (args) => {
      const command = ['program', ...args.map(([text, quote]) => quote(text))].join(' ');
      assert.deepEqual(parseArgv(command), ['program', ...args.map(([text]) => text)]);
    }),
  );
});

test('property: any text is parsed or refused as INVALID_INPUT, and nothing invisible gets through', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (command) => {
      try {
        // oxlint-disable-next-line no-control-regex -- that there is none is the point
        for (const argument of parseArgv(command)) assert.doesNotMatch(argument, /[\0-\x08\n-\x1f\x7f-\x9f]/);
      } catch (error) {
        assert.ok(error instanceof AppError && error.code === 'INVALID_INPUT', String(error));
      }
    }),
    { numRuns: 1000 },
  );
});

test('property: what is accepted is what a real shell makes of it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'argv-'));
  const plain = 'aB7 -=#~!%,|$*'.split('');
  const joined = (...pieces: string[]) =>
    fc.array(fc.constantFrom(...pieces), { maxLength: 5 }).map((all) => all.join(''));
  const part = fc.oneof(
    joined(...plain, "'", '"', '\\'),
    joined('a', '-', ' ', "'", '\\-', '\\"', '\\\\', '\\$').map((inner) => `"${inner}"`),
    joined(...plain, '"', '\\').map((inner) => `'${inner}'`),
  );
  const command = fc.array(part, { maxLength: 4 }).map((parts) => parts.join(''));
  try {
    fc.assert(
      fc.property(command, (text) => {
        const parsed = parsedOrUndefined(`p ${text}`);
        if (!parsed) return; // Refusing is always right; this is about what is accepted.
        const shell = execFileSync('/bin/sh', ['-c', `printf '%s\\0' p ${text}`], { cwd: folder });
        assert.deepEqual(parsed, shell.toString().split('\0').slice(0, -1), text);
      }),
      { numRuns: 300 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

function parsedOrUndefined(command: string): string[] | undefined {
  try {
    return parseArgv(command);
  } catch {
    return undefined; // Refused.
  }
}
