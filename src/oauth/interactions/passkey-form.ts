/** A form that only the script can fill in: hidden until it is there. */
import { html } from 'hono/html';
import { PASSKEY_SCRIPT_PATH } from '../paths.ts';
import type { Markup } from './page.ts';

export interface PasskeyForm {
  readonly kind: 'get' | 'create';
  readonly action: string;
  readonly options: object;
  readonly label: string;
  /** Hidden fields: what proves that the form is ours. */
  readonly fields: Readonly<Record<string, string>>;
  readonly isFirst?: boolean;
  /** Fields that are shown. */
  readonly body?: Markup;
}

export const passkeyScript = PASSKEY_SCRIPT_PATH;

export const passkeyForm = ({ kind, action, options, label, fields, isFirst, body }: PasskeyForm): Markup =>
  html`<form method="post" action="${action}" data-passkey="${kind}" data-options="${JSON.stringify(options)}" hidden>
${hiddenFields(fields)}
<input type="hidden" name="credential">
${body ?? ''}
<button${isFirst ? html` class="first"` : ''}>${label}</button>
<p role="status" class="soft"></p>
</form>`;

export const hiddenFields = (fields: Readonly<Record<string, string>>): Markup =>
  html`${Object.entries(fields).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  )}`;
