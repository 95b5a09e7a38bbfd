/** How much of a list fits into an answer. */

/** The first ones whose JSON takes at most so many characters together. */
export function firstThatFit<Item>(items: readonly Item[], characters: number): Item[] {
  let room = characters;
  const end = items.findIndex((item) => (room -= JSON.stringify(item).length + 1) < 0);
  return end === -1 ? [...items] : items.slice(0, end);
}
