import type { Counts } from '../cost/operations.ts';
import type { Recorder } from '../proxier.ts';
import { BlobLayout } from './blob-layout.ts';
import { IPTABLES_OPERATIONS, OPERATION } from './operations.ts';
import type { RuleText } from './rule-text.ts';
import type { RuleTable } from './rule-table.ts';

const NFT_RULE = OPERATION['iptables.nft.rule'];
const SKIPPED = OPERATION['iptables.legacy.skipped'];
const SELECTED = OPERATION['iptables.legacy.selected'];
const JUMP = OPERATION['iptables.jump'];
/** Expressions that nf_tables evaluates itself, and matches of either backend that are calls. */
const NATIVE = beginWith('iptables.nft.').filter((operation) => operation !== NFT_RULE);
const MATCHES = beginWith('iptables.match.');

/** A selector that fails on an address reads bytes 0 to 15 of the entry, and 90 and 91 to find the next one. */
const LINES_SKIPPED = 2;

/**
 * A walk in words. Names and the layout of blobs are made when a step needs them; a walk without a recorder never
 * asks.
 */
export class WalkRecord {
  readonly #text: RuleText;
  readonly #nft: boolean;
  readonly #layouts = new Map<RuleTable, { readonly commits: number; readonly layout: BlobLayout }>();

  constructor(text: RuleText, nft: boolean) {
    this.#text = text;
    this.#nft = nft;
  }

  match(recorder: Recorder, table: RuleTable, chain: number, row: number): void {
    const passed = row - table.first[chain]!;
    const at = this.#nft ? '' : `, entry at byte ${this.#layoutOf(table).rule(chain, row)}`;
    const place = `rule ${passed + 1} of ${table.count[chain]!}${at}`;
    const name = `${table.name} ${this.#text.chain(table, chain)}`;
    recorder.step(name, `${place}: ${this.#text.rule(table, chain, row)}`);
    // Names are kept only as long as one step needs them: the chains may change before the next.
    this.#text.forget();
  }

  end(recorder: Recorder, table: RuleTable, chain: number, builtIn: boolean): void {
    const end = builtIn ? 'policy ACCEPT' : 'back to the calling chain';
    const name = `${table.name} ${this.#text.chain(table, chain)}`;
    const rules = table.count[chain]!;
    recorder.step(name, `${rules === 0 ? 'no rules' : `none of ${rules} decided`}: ${end}`);
    this.#text.forget();
  }

  /** What the walk from `hook` cost between two states of the counts. */
  sum(
    recorder: Recorder,
    table: RuleTable,
    hook: number,
    before: Counts,
    after: Counts,
    bytes: number,
  ): void {
    const counted = (at: number): number => after[at]! - before[at]!;
    const matches = many(sumOf(MATCHES, counted), 'match', 'matches');
    const jumps = many(counted(JUMP), 'jump', 'jumps');
    const skipped = counted(SKIPPED);
    const what = this.#nft
      ? `${many(counted(NFT_RULE), 'rule', 'rules')}, ${bytes} bytes of their chains' blobs: ${many(sumOf(NATIVE, counted), 'expression', 'expressions')}, ${matches}, ${jumps}`
      : `${many(skipped + counted(SELECTED), 'entry', 'entries')}, ${bytes} of the blob's ${table.holds.bytes} bytes: ${linesText(skipped)}, ${matches}, ${jumps}`;
    recorder.step(`${table.name} ${this.#text.chain(table, hook)}`, `walked ${what}`);
  }

  #layoutOf(table: RuleTable): BlobLayout {
    const known = this.#layouts.get(table);
    if (known?.commits === table.commits) return known.layout;
    const layout = new BlobLayout(table, this.#text);
    this.#layouts.set(table, { commits: table.commits, layout });
    return layout;
  }
}

function beginWith(prefix: string): number[] {
  return IPTABLES_OPERATIONS.filter((name) => name.startsWith(prefix)).map((name) => OPERATION[name]);
}

function sumOf(operations: readonly number[], counted: (operation: number) => number): number {
  let sum = 0;
  for (const operation of operations) sum += counted(operation);
  return sum;
}

function linesText(skipped: number): string {
  if (skipped === 0) return 'no selector failed';
  return `${many(skipped, 'selector', 'selectors')} failed (${LINES_SKIPPED * skipped} or more cache lines of 64 bytes)`;
}

function many(count: number, one: string, more: string): string {
  return `${count} ${count === 1 ? one : more}`;
}
