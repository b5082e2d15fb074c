import { InputError } from '@vipsim/proxiers';

/** One step of a recording: what was done to a kernel, or what it showed. Fields depend on `op`. */
export interface Step {
  readonly op: string;
  /** Seconds since the case began. */
  readonly t: number;
  readonly [field: string]: unknown;
}

/** What was done to a real kernel, step by step, and what it did. */
export interface Recording {
  readonly file: string;
  readonly name: string;
  readonly kernel: string;
  readonly steps: readonly Step[];
}

/**
 * Read a recording: a JSON object with `case`, `kernel` and `steps`.
 * @throws InputError if it is none.
 */
export function readRecording(text: string, file: string): Recording {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw wrong(file, '', `not JSON: ${(error as Error).message}`);
  }
  if (!isRecord(document)) throw wrong(file, '', 'not a JSON object');
  const { steps } = document;
  if (!Array.isArray(steps)) throw wrong(file, 'steps', 'not a list of steps');
  steps.forEach((step: unknown, i) => {
    if (!isRecord(step) || typeof step['op'] !== 'string') throw wrong(file, `steps[${i}].op`, 'not a word');
    if (typeof step['t'] !== 'number' || !(step['t'] >= 0)) {
      throw wrong(file, `steps[${i}].t`, 'not a number of seconds from 0');
    }
  });
  const word = (name: string): string => (typeof document[name] === 'string' ? document[name] : '');
  return { file, name: word('case'), kernel: word('kernel'), steps: steps as Step[] };
}

/** A field of a step that must be text. */
export function textOf(step: Step, field: string, recording: Recording): string {
  const value = step[field];
  if (typeof value === 'string') return value;
  throw wrong(recording.file, `steps[${recording.steps.indexOf(step)}].${field}`, 'not a text');
}

/** A field of a step that must be an object; its values are the caller's to check. */
export function recordOf(step: Step, field: string, recording: Recording): Readonly<Record<string, unknown>> {
  const value = step[field];
  if (isRecord(value)) return value;
  throw wrong(recording.file, `steps[${recording.steps.indexOf(step)}].${field}`, 'not an object');
}

export function wrong(file: string, field: string, problem: string): InputError {
  return new InputError({
    file,
    document: 0,
    line: 0,
    subject: '',
    field,
    problem,
    hint: 'wanted a recording, {"case": …, "kernel": …, "steps": [{"op": …, "t": …}, …]}',
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
