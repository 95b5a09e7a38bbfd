/** What this system is to its own authorization server: clients that nobody registered. */

/** The command line. */
export const CLI_CLIENT_ID = 'ohp-cli';
/** The hostnames where browsers sign in. */
export const SITE_CLIENT_ID = 'ohp-sites';
