/** A real browser for pages: Debian's Chromium, a device with a passkey store, and a check of accessibility. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { AxeBuilder } from '@axe-core/playwright';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { PATIENCE_MS } from './eventually.ts';

const EXECUTABLE = '/usr/bin/chromium';
/** Why tests with a browser are skipped here; false: they are not. */
export const withoutChromium: string | false = existsSync(EXECUTABLE)
  ? false
  : `no ${EXECUTABLE} on this machine`;
/** By the size of what is sent, without what the browser adds. */
export const MAX_PAGE_BYTES = 30 * 1024;
/** Everything is looked at, and what is well is not written down. */
const ONLY_VIOLATIONS = { resultTypes: ['violations' as const] };
const NARROW = { width: 320, height: 640 };

/** Chromium's sandbox does not start for root, as in a container. */
export const openChromium = (): Promise<Browser> =>
  chromium.launch({
    timeout: PATIENCE_MS,
    executablePath: EXECUTABLE,
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  });

/** What a page says to the console is a fault, except of loads that were meant to fail. */
export async function openPage(context: BrowserContext): Promise<{ page: Page; said: string[] }> {
  const page = await context.newPage();
  const said: string[] = [];
  page.on('console', (message) => void said.push(message.text()));
  page.on('pageerror', (error) => void said.push(String(error)));
  return { page, said };
}

/** A device that keeps passkeys and says that its owner is there. */
export async function addAuthenticator(context: BrowserContext, page: Page) {
  const session = await context.newCDPSession(page);
  await session.send('WebAuthn.enable');
  const { authenticatorId } = await session.send('WebAuthn.addVirtualAuthenticator', {
    options: {
      protocol: 'ctap2',
      transport: 'internal',
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });
  return {
    credentials: async () => (await session.send('WebAuthn.getCredentials', { authenticatorId })).credentials,
    add: (credential: Awaited<ReturnType<typeof credentialsOf>>[number]) =>
      session.send('WebAuthn.addCredential', { authenticatorId, credential }),
    remove: (credentialId: string) =>
      session.send('WebAuthn.removeCredential', { authenticatorId, credentialId }),
    setVerified: (isUserVerified: boolean) =>
      session.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified }),
  };

  async function credentialsOf() {
    return (await session.send('WebAuthn.getCredentials', { authenticatorId })).credentials;
  }
}

/** In light and dark, wide and narrow: no violation that axe-core knows, nothing wider than the window. */
export async function requireSound(page: Page, what: string): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    // Legacy: in one go, without another page for what is in frames. Ours have none.
    assert.equal(page.frames().length, 1, `${what} has no frame`);
    const { violations } = await new AxeBuilder({ page }).options(ONLY_VIOLATIONS).setLegacyMode().analyze();
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
    assert.deepEqual(told, [], `${what}, ${colorScheme}`);
  }
  const size = page.viewportSize();
  await page.setViewportSize(NARROW);
  const width = await page.evaluate('document.documentElement.scrollWidth');
  assert.ok(Number(width) <= NARROW.width, `${what} is ${String(width)} pixels wide`);
  if (size) await page.setViewportSize(size);
  const bytes = Buffer.byteLength(await page.content());
  assert.ok(bytes <= MAX_PAGE_BYTES, `${what} has ${bytes} bytes`);
}
