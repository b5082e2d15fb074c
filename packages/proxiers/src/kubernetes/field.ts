import { InputError } from './input-error.ts';
import type { Key } from './json-locator.ts';

/** The document that a value comes from. */
export interface Origin {
  readonly file: string;
  /** 1-based. */
  readonly document: number;
  /** 1-based line of the value at a path, or of its nearest ancestor; 0 if unknown. */
  lineOf(path: readonly Key[]): number;
}

export type Labels = ReadonlyMap<string, string>;

/** A value of a document that knows where it stands, so that every complaint names file, line and path. */
export class Field {
  /** Absent and null are the same, as they are to the API server. */
  readonly value: unknown;
  /** Of a whole Kubernetes object: its kind. Empty for the values inside. */
  readonly kind: string;
  readonly #origin: Origin;
  readonly #parent: Field | undefined;
  readonly #key: Key;

  constructor(origin: Origin, value: unknown, parent: Field | undefined, key: Key, kind = '') {
    this.value = value ?? undefined;
    this.kind = kind;
    this.#origin = origin;
    this.#parent = parent;
    this.#key = key;
  }

  get present(): boolean {
    return this.value !== undefined;
  }

  get isMapping(): boolean {
    return typeof this.value === 'object' && !Array.isArray(this.value);
  }

  /** The same value, known to be an object of this kind. */
  as(kind: string): Field {
    return new Field(this.#origin, this.value, this.#parent, this.#key, kind);
  }

  get(key: string): Field {
    if (this.value === undefined) return new Field(this.#origin, undefined, this, key);
    if (!this.isMapping) throw this.error(`${shown(this.value)} is not a mapping`);
    return new Field(this.#origin, (this.value as Record<string, unknown>)[key], this, key);
  }

  list(): Field[] {
    if (this.value === undefined) return [];
    if (!Array.isArray(this.value)) throw this.error(`${shown(this.value)} is not a list`);
    return this.value.map((value, index) => new Field(this.#origin, value, this, index));
  }

  text(otherwise = ''): string {
    if (this.value === undefined) return otherwise;
    if (typeof this.value !== 'string') {
      const hint = typeof this.value === 'object' ? '' : 'wanted quotes around it';
      throw this.error(`${shown(this.value)} is not a string`, hint);
    }
    return this.value;
  }

  flag(otherwise: boolean): boolean {
    if (this.value === undefined) return otherwise;
    if (typeof this.value !== 'boolean')
      throw this.error(`${shown(this.value)} is not a boolean`, 'wanted true or false');
    return this.value;
  }

  choice<const Choice extends string>(choices: readonly Choice[], otherwise: Choice): Choice {
    const text = this.text(otherwise);
    const choice = choices.find((one) => one === text);
    if (choice === undefined)
      throw this.error(`${shown(text)} is not known`, `wanted one of ${choices.join(', ')}`);
    return choice;
  }

  /** `what` with its article, such as `a port`. */
  integer(what: string, min: number, max: number, otherwise: number): number {
    const value = this.value;
    if (value === undefined) return otherwise;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    const quoted = typeof value === 'string' && /^\d+$/.test(value) ? ', without quotes' : '';
    throw this.error(`${shown(value)} is not ${what}`, `wanted ${min} to ${max}${quoted}`);
  }

  labels(): Labels {
    const labels = new Map<string, string>();
    if (this.value === undefined) return labels;
    if (!this.isMapping) throw this.error(`${shown(this.value)} is not a mapping`);
    for (const key of Object.keys(this.value as object)) labels.set(key, this.get(key).text());
    return labels;
  }

  /** `shop.yaml:12 (document 3)`, to point at this field from another's complaint. */
  get place(): string {
    const line = this.#origin.lineOf(this.#path());
    return `${this.#origin.file}${line > 0 ? `:${line}` : ''} (document ${this.#origin.document})`;
  }

  error(problem: string, hint = ''): InputError {
    const path = this.#path();
    return new InputError({
      file: this.#origin.file,
      document: this.#origin.document,
      line: this.#origin.lineOf(path),
      subject: this.#subject(),
      field: path.map(step).join('').replace(/^\./, ''),
      problem,
      hint,
    });
  }

  #path(): Key[] {
    return this.#parent === undefined ? [] : [...this.#parent.#path(), this.#key];
  }

  /** The object around it, by name. */
  #subject(): string {
    if (this.kind === '') return this.#parent === undefined ? '' : this.#parent.#subject();
    const { metadata } = this.value as { metadata?: { name?: unknown; namespace?: unknown } | null };
    if (typeof metadata?.name !== 'string') return this.kind;
    if (this.kind === 'Node') return `Node ${metadata.name}`;
    const namespace = typeof metadata.namespace === 'string' ? metadata.namespace : 'default';
    return `${this.kind} ${namespace}/${metadata.name}`;
  }
}

function step(key: Key): string {
  if (typeof key === 'number') return `[${key}]`;
  return /^[\w-]+$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}

/** A value as a message shows it: short, and never a whole tree. */
export function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'a mapping';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
