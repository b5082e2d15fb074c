import { MODES } from '@vipsim/proxiers';
import { ScenarioError } from './scenario.ts';

/** Fields that hold text as it is written: the seed, and options whose values are words or names. */
const TEXTS = new Set([
  'seed',
  ...MODES.flatMap(({ name, options }) =>
    Object.entries(options)
      .filter(([, { kind }]) => kind === 'text' || kind === 'choice')
      .map(([option]) => `${name}.${option}`),
  ),
]);

/**
 * Put `path=value` settings into a scenario document. Values are read as the field would be written: true, 42,
 * 500ms, a,b,c for a list; where a field holds text, such as a kernel's version 6.1, as they stand.
 * @throws ScenarioError for a setting without `=` or through a field that is no section.
 */
export function applySettings(
  document: Record<string, unknown>,
  settings: readonly string[],
): Record<string, unknown> {
  const result = structuredClone(document);
  for (const setting of settings) {
    const equals = setting.indexOf('=');
    if (equals <= 0)
      throw new ScenarioError(`--set ${setting}: wanted path=value, such as workload.zipfExponent=0`);
    const keys = setting.slice(0, equals).split('.');
    let at = result;
    for (const key of keys.slice(0, -1)) {
      if (!Object.hasOwn(at, key))
        Object.defineProperty(at, key, { value: {}, enumerable: true, writable: true, configurable: true });
      const inner = at[key];
      if (typeof inner !== 'object' || inner === null)
        throw new ScenarioError(`--set ${setting}: ${key} has no fields`);
      at = inner as Record<string, unknown>;
    }
    const value = readValue(keys.join('.'), setting.slice(equals + 1));
    Object.defineProperty(at, keys.at(-1)!, { value, enumerable: true, writable: true, configurable: true });
  }
  return result;
}

function readValue(path: string, text: string): unknown {
  if (TEXTS.has(path)) return text;
  if (path === 'modes') return text.split(',');
  if (text === 'true' || text === 'false') return text === 'true';
  if (/^-?\d+(\.\d+)?(e-?\d+)?$/i.test(text)) return Number(text);
  return text;
}
