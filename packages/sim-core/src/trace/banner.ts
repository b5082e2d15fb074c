/** What a run prints before it starts, so that whoever finds the output can start it again. */
export interface BannerFacts {
  readonly seed: string;
  readonly version: string;
  /** Options after defaults: scalars, lists, and sections of these. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** `vipsim 1.2.3`, `seed=…`, then every option as `path=value`, in the order of the document. */
export function runBanner(facts: BannerFacts): string[] {
  return [`vipsim ${facts.version}`, `seed=${textOf(facts.seed)}`, ...optionLines('', facts.options)];
}

function optionLines(prefix: string, section: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(section).flatMap(([name, value]) => {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    return isSection(value) ? optionLines(path, value) : [`${path}=${textOf(value)}`];
  });
}

function isSection(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Plain where a shell reads it back as one word, as JSON otherwise: one option never takes two lines. */
function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join(',');
  if (typeof value !== 'string') return JSON.stringify(value) ?? String(value);
  return /^[\w./:@%+-]+$/.test(value) ? value : JSON.stringify(value);
}
