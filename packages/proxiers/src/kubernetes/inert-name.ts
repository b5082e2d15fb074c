/**
 * A name as it may stand in a comment of a rule. The API server allows letters, digits, dots and dashes only; an input
 * file may hold anything, and a quote or a line end in a comment would begin a rule of its own.
 */
export function inertName(name: string): string {
  return name.replace(/[^A-Za-z0-9._/:-]/gu, (character) => `%${character.codePointAt(0)!.toString(16)}`);
}
