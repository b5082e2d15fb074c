import { isNode, isScalar, LineCounter, parseAllDocuments, visit, type Document } from 'yaml';
import { Field, shown, type Origin } from './field.ts';
import { InputError } from './input-error.ts';
import { lineAt, locate, type Key } from './json-locator.ts';
import type { ReadOptions } from './read-options.ts';

/** One input: a file's name and what it holds. */
export interface SourceText {
  readonly name: string;
  readonly text: string;
}

/**
 * The Kubernetes objects of a source in their order, Lists opened. Throws InputError for what is neither YAML
 * nor JSON, for documents that are no objects, and where a limit is passed.
 */
export function readObjects(source: SourceText, options: ReadOptions): Field[] {
  const text = source.text.startsWith('\ufeff') ? source.text.slice(1) : source.text;
  const file = source.name;
  if (text.trim() === '') throw fault(file, 0, 'is empty', 'wanted Kubernetes objects as YAML or JSON');
  if (isBinary(text)) throw fault(file, 0, 'is binary', 'wanted Kubernetes objects as YAML or JSON text');
  try {
    const objects: Field[] = [];
    const roots = /^\s*[{[]/.test(text) ? [readJson(file, text)] : readYaml(file, text, options);
    for (const root of roots) openLists(root, '', objects);
    return objects;
  } catch (error) {
    // The parsers and openLists descend by recursion.
    if (error instanceof RangeError) throw fault(file, 0, 'is nested too deeply', '');
    throw error;
  }
}

function readJson(file: string, text: string): Field {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    const { offset, wanted } = locate(text, []);
    throw fault(file, lineAt(text, offset), `is not JSON: wanted ${wanted}`, templateHint(text));
  }
  const lineOf = (path: readonly Key[]): number => lineAt(text, locate(text, path).offset);
  return new Field({ file, document: 1, lineOf }, value, undefined, '');
}

function readYaml(file: string, text: string, options: ReadOptions): Field[] {
  if (text.length > options.maxYamlBytes) {
    throw fault(
      file,
      0,
      `${mebibytes(text.length)} of YAML, more than maxYamlBytes (${mebibytes(options.maxYamlBytes)})`,
      'dump JSON instead, which reads faster: kubectl get services,endpointslices,pods,nodes -A -o json',
    );
  }
  const lines = new LineCounter();
  // The parser compares each key of a mapping with all before it; refuseRepeatedKeys does so in linear time.
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: false,
    merge: true,
    logLevel: 'silent',
  });
  const roots: Field[] = [];
  for (const [index, document] of [...documents].entries()) {
    const origin: Origin = { file, document: index + 1, lineOf: (path) => yamlLine(document, lines, path) };
    const bad = document.errors[0];
    if (bad) {
      const line = lines.linePos(bad.pos[0]).line;
      throw fault(file, line, `is not YAML: ${bad.message}`, templateHint(text), index + 1);
    }
    refuseRepeatedKeys(origin, document, lines);
    const value = toValue(origin, document, options);
    if (value !== null && value !== undefined) roots.push(new Field(origin, value, undefined, ''));
  }
  return roots;
}

function toValue(origin: Origin, document: Document, options: ReadOptions): unknown {
  try {
    return document.toJS({ maxAliasCount: options.maxAliases });
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error;
    const excessive = error.message.startsWith('Excessive alias count');
    const problem = excessive
      ? `aliases repeat their anchors more than maxAliases (${options.maxAliases}) times`
      : `is not YAML: ${error.message}`;
    throw fault(
      origin.file,
      origin.lineOf([]),
      problem,
      excessive ? 'write the values out' : '',
      origin.document,
    );
  }
}

function refuseRepeatedKeys(origin: Origin, document: Document, lines: LineCounter): void {
  visit(document, {
    Map(_, map) {
      const seen = new Set<unknown>();
      for (const { key } of map.items) {
        if (!isScalar(key) || key.value === '<<') continue;
        if (seen.has(key.value)) {
          const line = key.range ? lines.linePos(key.range[0]).line : 0;
          throw fault(origin.file, line, `key ${shown(key.value)} is given twice`, '', origin.document);
        }
        seen.add(key.value);
      }
    },
  });
}

function yamlLine(document: Document, lines: LineCounter, path: readonly Key[]): number {
  for (let depth = path.length; depth >= 0; depth--) {
    const node = document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 0;
}

/** A typed list (`ServiceList`) leaves the kind of its items out; `List` does not. */
function openLists(field: Field, impliedKind: string, objects: Field[]): void {
  if (!field.present || !field.isMapping) {
    const what = field.present ? shown(field.value) : 'null';
    throw field.error(
      `${what} is not a mapping`,
      'wanted a Kubernetes object with apiVersion, kind and metadata',
    );
  }
  const kind = field.get('kind').text(impliedKind);
  if (kind === '')
    throw field.error('has no kind', 'wanted a Kubernetes object with apiVersion, kind and metadata');
  const items = field.get('items');
  if (kind === 'List' || (kind.endsWith('List') && Array.isArray(items.value))) {
    for (const item of items.list()) openLists(item, kind.slice(0, -'List'.length), objects);
  } else {
    objects.push(field.as(kind));
  }
}

/** By the control characters and undecodable bytes at its start. */
function isBinary(text: string): boolean {
  if (text.includes('\0')) return true;
  const length = Math.min(text.length, 4096);
  let odd = 0;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if ((code < 32 && code !== 9 && code !== 10 && code !== 13) || code === 0xfffd) odd++;
  }
  return odd * 10 > length;
}

function templateHint(text: string): string {
  return text.includes('{{') ? 'a template is to be rendered first, for instance by helm template' : '';
}

function mebibytes(size: number): string {
  const tenths = Math.ceil((size * 10) / 1048576);
  return size < 1048576 ? `${size} bytes` : `${tenths / 10} MiB`;
}

function fault(file: string, line: number, problem: string, hint: string, document = 0): InputError {
  return new InputError({ file, document, line, subject: '', field: '', problem, hint });
}
