/** Completion scripts, written out from the operations: no call of `ohp` while the person types. */
import { AppError } from '../../core/errors.ts';
import type { AnyOperation } from '../../core/operation.ts';
import { argumentsOf } from '../arguments.ts';
import { commandWordsOf, flagsOf, optionsOf } from './arguments.ts';
import { questionOf } from './prompt.ts';
import { RESET } from './reset.ts';
import { VERIFY } from './verify.ts';

export const shells = ['bash', 'zsh', 'fish'] as const;

const COMMON = ['--json', '--url', '--ca-file', '--help'];

/** Verb → noun → options. A command of one word has the noun ''. */
type Grammar = Map<string, Map<string, string[]>>;

export function completionScript(shell: string, operations: readonly AnyOperation[]): string {
  const grammar = grammarOf(operations);
  switch (shell) {
    case 'bash':
      return bash(grammar);
    case 'zsh':
      return zsh(grammar);
    case 'fish':
      return fish(grammar);
    default:
      throw new AppError('INVALID_INPUT', `shell: has to be one of ${shells.join(', ')}`);
  }
}

function grammarOf(operations: readonly AnyOperation[]): Grammar {
  const grammar: Grammar = new Map([
    ['login', new Map([['', ['--url', '--ca-file']]])],
    ['logout', new Map([['', ['--url']]])],
    ['completion', new Map(shells.map((shell) => [shell, []]))],
    ['broker', new Map([['', ['--help']]])],
    [RESET.verb, new Map([[RESET.noun, [...RESET.options]]])],
    [VERIFY.verb, new Map([[VERIFY.noun, [...VERIFY.options]]])],
  ]);
  for (const operation of operations) {
    const [verb, noun = ''] = commandWordsOf(operation);
    const nouns = grammar.get(verb) ?? new Map<string, string[]>();
    const options = optionsOf(argumentsOf(operation)).flatMap(flagsOf);
    grammar.set(verb, nouns.set(noun, [...options, ...COMMON, ...(questionOf(operation) ? ['--yes'] : [])]));
  }
  return grammar;
}

const wordsOf = (nouns: Map<string, string[]>): string[] => [...nouns.keys()].filter((noun) => noun !== '');

/** The cases of a `case` statement, the same for bash and zsh: words come from identifiers and need no quoting. */
function cases(grammar: Grammar, variable: string): { nouns: string; options: string } {
  const nouns = [...grammar].map(
    ([verb, map]) => `      ${verb}) ${variable}="${wordsOf(map).join(' ')}" ;;`,
  );
  const options = [...grammar].flatMap(([verb, map]) =>
    [...map].map(
      ([noun, names]) =>
        `      "${verb} ${noun}"${noun === '' ? '*' : ''}) ${variable}="${names.join(' ')}" ;;`,
    ),
  );
  return { nouns: nouns.join('\n'), options: options.join('\n') };
}

function bash(grammar: Grammar): string {
  const { nouns, options } = cases(grammar, 'found');
  return `_ohp() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" found=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    found="${[...grammar.keys()].join(' ')}"
  elif [ "$COMP_CWORD" -eq 2 ]; then
    case "\${COMP_WORDS[1]}" in
${nouns}
    esac
  fi
  if [ "$COMP_CWORD" -gt 1 ] && [ -z "$found" ]; then
    case "\${COMP_WORDS[1]} \${COMP_WORDS[2]}" in
${options}
    esac
  fi
  COMPREPLY=($(compgen -W "$found" -- "$cur"))
}
complete -o default -F _ohp ohp
`;
}

/** `words` and `CURRENT` are zsh's own, counted from 1 with the command. */
function zsh(grammar: Grammar): string {
  const { nouns, options } = cases(grammar, 'found');
  return `#compdef ohp
_ohp() {
  local found=""
  if [ "$CURRENT" -eq 2 ]; then
    found="${[...grammar.keys()].join(' ')}"
  elif [ "$CURRENT" -eq 3 ]; then
    case "\${words[2]}" in
${nouns}
    esac
  fi
  if [ "$CURRENT" -gt 2 ] && [ -z "$found" ]; then
    case "\${words[2]} \${words[3]}" in
${options}
    esac
  fi
  compadd -- \${=found}
}
compdef _ohp ohp
`;
}

function fish(grammar: Grammar): string {
  const verbs = [...grammar.keys()].join(' ');
  const lines = [...grammar].flatMap(([verb, nouns]) => {
    const names = wordsOf(nouns);
    const first = `__fish_seen_subcommand_from ${verb}`;
    return [
      ...(names.length > 0
        ? [
            `complete -c ohp -f -n '${first}; and not __fish_seen_subcommand_from ${names.join(' ')}' -a '${names.join(' ')}'`,
          ]
        : []),
      ...[...nouns].flatMap(([noun, options]) =>
        options.map((option) => {
          const when = noun === '' ? first : `${first}; and __fish_seen_subcommand_from ${noun}`;
          return `complete -c ohp -n '${when}' -l ${option.slice(2)}`;
        }),
      ),
    ];
  });
  return [`complete -c ohp -f -n __fish_use_subcommand -a '${verbs}'`, ...lines, ''].join('\n');
}
