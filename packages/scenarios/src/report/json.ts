import type { ResultDocument } from './result.ts';

/**
 * The whole document, indented, with a newline at the end. `<` and the characters that a terminal might obey are
 * written as \u escapes: the value is the same, and the text is safe to print or to embed in a page.
 */
export function renderJson(result: ResultDocument): string {
  return `${inert(JSON.stringify(result, null, 2))}\n`;
}

function inert(json: string): string {
  return json.replaceAll(
    /[<\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (character) => {
      return `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`;
    },
  );
}
