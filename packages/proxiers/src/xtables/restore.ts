import type { Family } from '../netfilter/address.ts';
import { readRules } from './rule-reader.ts';
import { BUILT_IN, type Chain, type Rule, type Table } from './rule.ts';
import { Ruleset, newChain, newTable } from './ruleset.ts';
import { ruleText } from './save.ts';
import { CONTINUING, OTHER_TARGETS, TARGETS } from './targets/extensions.ts';
import { fault, tokens, type Place, type Token } from './token.ts';

/** XT_EXTENSION_MAXNAMELEN less the end of the string. */
const NAME_MAX = 28;

export interface RestoreOptions {
  /** For errors. */
  readonly file: string;
  /** Leave what the text does not name as it is: `iptables-restore --noflush`. */
  readonly noflush: boolean;
  /** Take the counters from the text: `iptables-restore --counters`. Else new rules start at zero. */
  readonly counters: boolean;
}

/** The rules of a text that iptables-save or ip6tables-save printed, or that was written for iptables-restore. */
export function readRuleset(text: string, file: string, family: Family): Ruleset {
  const rules = new Ruleset(family);
  restore(rules, text, { file, noflush: false, counters: true });
  return rules;
}

/**
 * Apply a text as iptables-restore does: table by table, each at its COMMIT or not at all. Without `noflush` a
 * table that the text names is emptied first; with it, a chain that is declared is, and others stay.
 * Source: iptables/iptables-restore.c (1.8.9).
 * @throws InputError with file and line; tables committed before it stay committed, as they do in the kernel.
 */
export function restore(rules: Ruleset, text: string, options: RestoreOptions): void {
  const reader = new RestoreReader(rules, options);
  let line = 0;
  for (let from = 0; from < text.length;) {
    let to = text.indexOf('\n', from);
    if (to < 0) to = text.length;
    line++;
    reader.line(text.slice(from, text[to - 1] === '\r' ? to - 1 : to), line);
    from = to + 1;
  }
  reader.end(line);
}

class RestoreReader {
  readonly #rules: Ruleset;
  readonly #options: RestoreOptions;
  /** The table between `*name` and COMMIT. */
  #table: Table | undefined;
  #remarks: string[] = [];
  #place: Place;

  constructor(rules: Ruleset, options: RestoreOptions) {
    this.#rules = rules;
    this.#options = options;
    this.#place = { file: options.file, line: 0 };
  }

  line(text: string, line: number): void {
    this.#place = { file: this.#options.file, line };
    const first = text.trimStart()[0];
    if (first === undefined) return;
    if (first === '#') {
      if (this.#table === undefined) this.#remarks.push(text);
    } else if (first === '*') this.#open(text.trim().slice(1));
    else if (text.trim() === 'COMMIT') this.#commit();
    else if (this.#table === undefined) {
      throw this.#fault(
        'a rule outside a table',
        'begin with a line *filter, *nat, *mangle, *raw or *security, end each with COMMIT',
      );
    } else if (first === ':') this.#declare(text.trim().slice(1), this.#table);
    else this.#command(text, this.#table);
  }

  end(line: number): void {
    this.#place = { file: this.#options.file, line };
    if (this.#table !== undefined) {
      throw this.#fault(`table ${this.#table.name} is not committed`, 'end it with a line COMMIT');
    }
    this.#rules.trailer = this.#remarks;
    this.#rules.refreshLists();
  }

  #open(name: string): void {
    if (this.#table !== undefined) {
      throw this.#fault(`*${name} before the COMMIT of ${this.#table.name}`, 'add a line COMMIT above');
    }
    if (!Object.hasOwn(BUILT_IN, name)) {
      throw this.#fault(`no table ${JSON.stringify(name)}`, `there are ${Object.keys(BUILT_IN).join(', ')}`);
    }
    const held = this.#rules.tables.get(name);
    this.#table = newTable(name);
    this.#table.remarks = this.#remarks;
    this.#remarks = [];
    if (held === undefined) return;
    for (const chain of held.chains.values()) {
      if (this.#options.noflush) this.#table.chains.set(chain.name, { ...chain, rules: [...chain.rules] });
      else if (chain.policy !== undefined) this.#table.chains.get(chain.name)!.policy = chain.policy;
    }
  }

  /** `:NAME POLICY [packets:bytes]` */
  #declare(text: string, table: Table): void {
    const match = /^(\S+)\s+(\S+)(?:\s+\[(\d{1,15}):(\d{1,15})\])?$/.exec(text);
    if (!match)
      throw this.#fault(`:${text} is not a chain`, 'write :NAME POLICY [0:0], with policy - for your own');
    const [, name, policy, packets, bytes] = match;
    const chain = this.#create(name!, table);
    if (chain.policy !== undefined && policy !== '-') {
      if (policy !== 'ACCEPT' && policy !== 'DROP') {
        throw this.#fault(`policy ${policy} of chain ${name}`, 'a policy is ACCEPT or DROP');
      }
      chain.policy = policy;
      chain.packets = 0;
      chain.bytes = 0;
    }
    if (this.#options.counters && packets !== undefined) {
      chain.packets = Number(packets);
      chain.bytes = Number(bytes);
    }
  }

  #create(name: string, table: Table): Chain {
    const held = table.chains.get(name);
    if (held?.policy !== undefined) return held;
    if (name.length > NAME_MAX) {
      throw this.#fault(
        `chain name ${name} has ${name.length} characters`,
        `at most ${NAME_MAX} are allowed`,
      );
    }
    if (name.startsWith('-') || name.startsWith('!') || isTarget(name)) {
      throw this.#fault(`a chain cannot be called ${name}`, 'choose a name that is no option and no target');
    }
    const chain = newChain(name, undefined);
    table.chains.set(name, chain);
    return chain;
  }

  #command(text: string, table: Table): void {
    const counted = /^\s*\[(\d{1,15}):(\d{1,15})\]\s*/.exec(text);
    const words = tokens(counted ? text.slice(counted[0].length) : text, this.#place);
    while (words[0]?.text === '-4' || words[0]?.text === '-6') {
      if (words.shift()!.text !== `-${this.#rules.family}`) return;
    }
    // Options may stand before the command: `-t` may not, the table is that of the section.
    const command = words[0]?.text ?? '';
    const name = words[1]?.text;
    switch (command) {
      case '-A':
      case '--append':
        this.#chain(table, command, name).rules.push(...this.#read(words.slice(2), table, counted));
        return;
      case '-I':
      case '--insert':
        this.#insert(table, words, counted);
        return;
      case '-D':
      case '--delete':
        this.#delete(table, words);
        return;
      case '-N':
      case '--new-chain':
        if (name !== undefined && table.chains.has(name))
          throw this.#fault(`chain ${name} exists`, 'remove the -N');
        this.#create(this.#needed(command, name), table);
        return;
      case '-F':
      case '--flush':
        if (name !== undefined) this.#chain(table, command, name).rules = [];
        else for (const chain of table.chains.values()) chain.rules = [];
        return;
      case '-X':
      case '--delete-chain':
        this.#deleteChains(table, name);
        return;
      case '-P':
      case '--policy':
        this.#declare(`${name} ${words[2]?.text} [0:0]`, table);
        return;
      default:
        throw this.#fault(
          `${JSON.stringify(command)} is not a command that is read here`,
          'use -A, -I, -D, -N, -F, -X or -P, one to a line',
        );
    }
  }

  #read(words: readonly Token[], table: Table, counted: RegExpExecArray | null): Rule[] {
    const rules = readRules(words, table.name, this.#rules.family, this.#place);
    for (const rule of rules) {
      if (counted && this.#options.counters) {
        rule.packets = Number(counted[1]);
        rule.bytes = Number(counted[2]);
      }
    }
    return rules;
  }

  #insert(table: Table, words: readonly Token[], counted: RegExpExecArray | null): void {
    const { rules } = this.#chain(table, '-I', words[1]?.text);
    const hasNumber = /^\d{1,9}$/.test(words[2]?.text ?? '');
    const number = hasNumber ? Number(words[2]!.text) : 1;
    if (number < 1 || number > rules.length + 1) {
      throw this.#fault(`-I at ${number}: the chain has ${rules.length} rules`, 'count from 1');
    }
    rules.splice(number - 1, 0, ...this.#read(words.slice(hasNumber ? 3 : 2), table, counted));
  }

  /** By number, or by what the rule says. */
  #delete(table: Table, words: readonly Token[]): void {
    const chain = this.#chain(table, '-D', words[1]?.text);
    if (words.length === 3 && /^\d{1,9}$/.test(words[2]!.text)) {
      const index = Number(words[2]!.text) - 1;
      if (index < 0 || index >= chain.rules.length) {
        throw this.#fault(
          `-D ${chain.name} ${index + 1}: there are ${chain.rules.length} rules`,
          'count from 1',
        );
      }
      chain.rules.splice(index, 1);
      return;
    }
    for (const wanted of this.#read(words.slice(2), table, null)) {
      const text = ruleText(chain.name, wanted);
      const index = chain.rules.findIndex((rule) => ruleText(chain.name, rule) === text);
      if (index < 0)
        throw this.#fault(`-D: chain ${chain.name} has no such rule`, 'print it with iptables-save');
      chain.rules.splice(index, 1);
    }
  }

  #deleteChains(table: Table, name: string | undefined): void {
    const wanted =
      name === undefined
        ? [...table.chains.values()].filter(({ policy }) => policy === undefined)
        : [this.#chain(table, '-X', name)];
    for (const chain of wanted) {
      if (chain.policy !== undefined) throw this.#fault(`-X ${chain.name}: it is built in`, 'use -F');
      if (chain.rules.length > 0)
        throw this.#fault(`-X ${chain.name}: it has rules`, `flush it with -F ${chain.name}`);
      table.chains.delete(chain.name);
    }
  }

  #commit(): void {
    const table = this.#table;
    if (table === undefined) throw this.#fault('COMMIT without a table', 'begin the table with *NAME');
    this.#checkJumps(table);
    checkLoops(table, this.#place);
    for (const { rules } of table.chains.values()) {
      for (const { matches } of rules) for (const match of matches) match.restart?.();
    }
    this.#rules.tables.set(table.name, table);
    this.#table = undefined;
  }

  #checkJumps(table: Table): void {
    for (const chain of table.chains.values()) {
      for (const { target, line } of chain.rules) {
        if (target?.kind !== 'chain') continue;
        const to = table.chains.get(target.chain);
        if (to !== undefined && to.policy === undefined) continue;
        const problem = to === undefined ? 'is no chain of this table and no target' : 'is built in';
        throw fault(
          { file: this.#place.file, line: line === 0 ? this.#place.line : line },
          `table ${table.name}, chain ${chain.name}: jump to ${target.chain}, which ${problem}`,
          `declare :${target.chain} - [0:0], or correct the name`,
        );
      }
    }
  }

  #chain(table: Table, command: string, name: string | undefined): Chain {
    const chain = table.chains.get(this.#needed(command, name));
    if (chain !== undefined) return chain;
    throw this.#fault(`no chain ${name} in table ${table.name}`, `declare it first with :${name} - [0:0]`);
  }

  #needed(command: string, name: string | undefined): string {
    if (name === undefined) throw this.#fault(`${command} lacks a chain`, 'name the chain behind it');
    return name;
  }

  #fault(problem: string, hint: string): Error {
    return fault(this.#place, problem, hint);
  }
}

/** The kernel refuses tables in which a chain can come back to itself (ELOOP). */
function checkLoops(table: Table, place: Place): void {
  const done = new Set<string>();
  const open = new Set<string>();
  const stack: { readonly chain: Chain; at: number }[] = [];
  for (const root of table.chains.values()) {
    if (!done.has(root.name)) stack.push({ chain: root, at: 0 });
    open.add(root.name);
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const target = top.chain.rules[top.at++]?.target;
      if (target === undefined && top.at > top.chain.rules.length) {
        stack.pop();
        open.delete(top.chain.name);
        done.add(top.chain.name);
        continue;
      }
      if (target?.kind !== 'chain' || done.has(target.chain)) continue;
      if (open.has(target.chain)) {
        throw fault(
          place,
          `table ${table.name}: chain ${target.chain} comes back to itself by way of ${top.chain.name}`,
          'remove the jump that closes the loop',
        );
      }
      open.add(target.chain);
      stack.push({ chain: table.chains.get(target.chain)!, at: 0 });
    }
    open.delete(root.name);
  }
}

function isTarget(name: string): boolean {
  return (
    Object.hasOwn(TARGETS, name) ||
    CONTINUING.includes(name) ||
    OTHER_TARGETS.includes(name) ||
    ['ACCEPT', 'DROP', 'RETURN'].includes(name)
  );
}
