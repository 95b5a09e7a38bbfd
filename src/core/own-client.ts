/** The command line as a client of the authorization server: known to both, registered by nobody. */
export const CLI_CLIENT_ID = 'ohp-cli';
