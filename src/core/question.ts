/** What a person is asked before a change, out of what the change does; undefined when it does nothing worth asking. */
export function questionAbout(change: string, effects: readonly (string | false)[]): string | undefined {
  const told = effects.filter((effect) => effect !== false);
  return told.length > 0 ? `${change}? ${told.join('; ')}.` : undefined;
}
