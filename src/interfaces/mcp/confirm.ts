/** Asking a person before a call that destroys or exposes something: a form of one box, in both eras. */
import { assert } from '../../core/assert.ts';
import { AppError } from '../../core/errors.ts';
import type { Confirm, ConfirmationQuestion } from '../../core/operation.ts';
import { isRecord } from './message.ts';
import type { McpSettings } from './settings.ts';

/** What came back from a form. `content` is what the client says the person entered. */
export interface Answer {
  readonly action: string;
  readonly content?: unknown;
}
export type Ask = (question: ConfirmationQuestion) => Promise<Answer>;

/** The form: no default, so that a client which fills in defaults confirms nothing by itself. */
export const confirmationForm = (message: string) => ({
  message,
  requestedSchema: {
    type: 'object' as const,
    properties: {
      confirm: {
        type: 'boolean' as const,
        title: 'Confirm',
        description: 'Yes, do exactly this',
      },
    },
    required: ['confirm'],
  },
});

export interface Asking {
  /** Undefined: the call goes on unasked, as the setting says. */
  readonly confirm: Confirm | undefined;
  /** Undefined: nobody can be asked. */
  readonly insist: Confirm | undefined;
}

export function askingBy(setting: McpSettings['confirm'], ask: Ask | undefined): Asking {
  const insist: Confirm | undefined = ask && (async (question) => requireYes(await ask(question)));
  if (setting === 'never') return { confirm: undefined, insist };
  return { confirm: insist ?? (setting === 'always' ? askOnPage : undefined), insist };
}

/** By the link that the refusal holds. */
async function askOnPage({ onPage }: ConfirmationQuestion): Promise<void> {
  assert(onPage !== undefined, 'dispatch lets every question be asked on a page');
  onPage();
}

/** Anything but a clear yes is a no. */
export function requireYes({ action, content }: Answer): void {
  if (action === 'accept' && isRecord(content) && content.confirm === true) return;
  throw new AppError('CONFIRMATION_REQUIRED', `not confirmed (${answerName(action)}); nothing was done`);
}

/** The client's words are not repeated. */
function answerName(action: string): string {
  if (action === 'accept') return 'the box was not ticked';
  return action === 'decline' ? 'declined' : 'cancelled';
}

/** A bare `elicitation: {}` means forms; naming only `url` means no forms. @see MCP 2025-11-25, Elicitation */
export function offersForms(capabilities: unknown): boolean {
  if (!isRecord(capabilities) || !isRecord(capabilities.elicitation)) return false;
  const { form, url } = capabilities.elicitation;
  return form !== undefined || url === undefined;
}
