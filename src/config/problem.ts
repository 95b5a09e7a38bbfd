/** What is wrong with the configuration, and where. */
export type Path = readonly PropertyKey[];
/** Where a setting was found: `environment variable OHP_BIND` or `config.yaml:3`. */
export type Locate = (path: Path) => string;

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[], options?: { cause: unknown }) {
    super(
      `the configuration is not usable:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`,
      options,
    );
    this.problems = problems;
  }
}
