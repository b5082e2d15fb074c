import { readChainBody, readSetBody } from './reader-block.ts';
import { readElements } from './reader-value.ts';
import { readName, readNumber } from './reader-word.ts';
import { readRule } from './reader-rule.ts';
import type { Command, Element, Family, Named, Rule, RulePlace } from './statement.ts';
import type { Tokens } from './tokens.ts';

const FAMILIES: readonly string[] = ['ip', 'ip6', 'inet'];
const OPERATIONS = ['add', 'create', 'delete', 'destroy', 'flush', 'insert', 'replace'] as const;
type Operation = (typeof OPERATIONS)[number];
const OBJECTS = 'table, chain, rule, set, map and element';

interface Place {
  readonly line: number;
  readonly family: Family;
  readonly table: string;
}

/** Reads commands, one a call, onto a list. */
export class CommandReader {
  readonly #tokens: Tokens;
  readonly #commands: Command[];

  constructor(tokens: Tokens, commands: Command[]) {
    this.#tokens = tokens;
    this.#commands = commands;
  }

  /** One command with its end, or one `table` block. */
  command(): void {
    const tokens = this.#tokens;
    const word = tokens.text;
    if (tokens.is('table')) {
      this.#table('add', tokens.line);
      return;
    }
    if (!(OPERATIONS as readonly string[]).includes(word) || tokens.kind !== 'word') {
      throw tokens.fault(
        `${tokens.shown()} is not a command that is read here`,
        word === 'define' || word === 'include' || word === 'undefine' || word === 'redefine'
          ? 'write the values out: variables and includes are not read'
          : 'begin with add, create, insert, replace, delete, destroy, flush, or table … { … }',
      );
    }
    const line = tokens.line;
    tokens.next();
    this.#operation(word as Operation, line);
    this.#end();
  }

  #operation(op: Operation, line: number): void {
    const tokens = this.#tokens;
    const what = tokens.text;
    switch (what) {
      case 'table':
        this.#table(op, line);
        return;
      case 'ruleset':
        if (op !== 'flush') break;
        tokens.next();
        this.#commands.push({ op, what, line, ...(tokens.atEnd ? {} : { family: this.#family() }) });
        return;
      case 'chain':
        tokens.next();
        this.#chain(op, line);
        return;
      case 'set':
      case 'map':
        tokens.next();
        this.#set(op, what, line);
        return;
      case 'element':
        tokens.next();
        this.#element(op, line);
        return;
      case 'rule':
        tokens.next();
        this.#rule(op, line);
        return;
    }
    // `add ip nat prerouting …` is `add rule …` with a word left out.
    if (op === 'add' && tokens.kind === 'word' && FAMILIES.includes(what)) {
      this.#rule(op, line);
      return;
    }
    throw tokens.fault(`${op} ${tokens.shown()}: there is no such command here`, `${op} works on ${OBJECTS}`);
  }

  #table(op: Operation, line: number): void {
    const tokens = this.#tokens;
    tokens.expect('table', 'write table FAMILY NAME');
    const family = this.#family();
    if ((op === 'delete' || op === 'destroy') && tokens.is('handle')) {
      throw tokens.fault('a table by its handle', 'name the table');
    }
    const place: Place = { line, family, table: readName(tokens, 'a table') };
    if (op === 'add' || op === 'create') {
      const at = this.#commands.length;
      const comment = tokens.is('{') ? this.#tableBlock(place) : undefined;
      const command: Command = {
        op,
        what: 'table',
        ...place,
        ...(comment === undefined ? {} : { comment }),
      };
      this.#commands.splice(at, 0, command);
    } else if (op === 'delete' || op === 'destroy' || op === 'flush') {
      this.#commands.push({ op, what: 'table', ...place });
    } else throw this.#noSuch(op, 'table');
  }

  /** Chains first, then sets with their elements, then rules: the order in which nft sends a block. */
  #tableBlock(place: Place): string | undefined {
    const tokens = this.#tokens;
    let comment: string | undefined;
    const chains: Command[] = [];
    const sets: Command[] = [];
    const rules: Command[] = [];
    tokens.next();
    for (;;) {
      while (tokens.kind === 'line' || tokens.is(';')) tokens.next();
      if (tokens.take('}')) break;
      const line = tokens.line;
      const what = tokens.text;
      if (tokens.take('comment')) {
        comment = this.#comment();
        continue;
      }
      if (what === 'chain' && tokens.take('chain')) {
        const name = readName(tokens, 'a chain');
        const { chain, rules: own } = readChainBody(tokens, name);
        chains.push({ op: 'add', what: 'chain', ...place, line, chain });
        for (const { rule, line: at } of own) {
          rules.push({ op: 'add', what: 'rule', ...place, line: at, chain: name, rule });
        }
        continue;
      }
      if ((what === 'set' || what === 'map') && tokens.take(what)) {
        const { set, elements } = readSetBody(tokens, readName(tokens, `a ${what}`), what);
        sets.push({ op: 'add', what, ...place, line, set });
        if (elements.length > 0) {
          sets.push({ op: 'add', what: 'element', ...place, line, set: set.name, elements });
        }
        continue;
      }
      throw tokens.fault(
        `${tokens.shown()} in a table is not read here`,
        'a table holds chain, set, map and comment; close it with a } of its own',
      );
    }
    for (const command of chains) this.#commands.push(command);
    for (const command of sets) this.#commands.push(command);
    for (const command of rules) this.#commands.push(command);
    return comment;
  }

  #chain(op: Operation, line: number): void {
    const tokens = this.#tokens;
    const place = this.#place(line);
    if (op === 'delete' || op === 'destroy') {
      this.#commands.push({ op, what: 'chain', ...place, target: this.#named('a chain') });
      return;
    }
    const name = readName(tokens, 'a chain');
    if (op === 'flush') this.#commands.push({ op, what: 'chain', ...place, chain: name });
    else if (op === 'add' || op === 'create') {
      const body = tokens.is('{') ? readChainBody(tokens, name) : { chain: { name, rules: [] }, rules: [] };
      this.#commands.push({ op, what: 'chain', ...place, chain: body.chain });
      for (const { rule, line: at } of body.rules) {
        this.#commands.push({ op: 'add', what: 'rule', ...place, line: at, chain: name, rule });
      }
    } else throw this.#noSuch(op, 'chain');
  }

  #set(op: Operation, what: 'set' | 'map', line: number): void {
    const tokens = this.#tokens;
    const place = this.#place(line);
    if (op === 'delete' || op === 'destroy') {
      this.#commands.push({ op, what, ...place, target: this.#named(`a ${what}`) });
      return;
    }
    const name = readName(tokens, `a ${what}`);
    if (op === 'flush') this.#commands.push({ op, what, ...place, set: name });
    else if (op === 'add' || op === 'create') {
      if (!tokens.is('{')) {
        throw tokens.fault(`${what} ${name} has no body`, `write ${what} ${name} { type ipv4_addr ; }`);
      }
      const { set, elements } = readSetBody(tokens, name, what);
      this.#commands.push({ op, what, ...place, set });
      if (elements.length > 0) {
        this.#commands.push({ op: 'add', what: 'element', ...place, set: name, elements });
      }
    } else throw this.#noSuch(op, what);
  }

  #element(op: Operation, line: number): void {
    const tokens = this.#tokens;
    const place = this.#place(line);
    const set = readName(tokens, 'a set');
    if (op !== 'add' && op !== 'create' && op !== 'delete' && op !== 'destroy') {
      throw this.#noSuch(op, 'element');
    }
    const elements: readonly Element[] = readElements(tokens);
    this.#commands.push({ op, what: 'element', ...place, set, elements });
  }

  #rule(op: Operation, line: number): void {
    const tokens = this.#tokens;
    const place = this.#place(line);
    const chain = readName(tokens, 'a chain');
    if (op === 'delete' || op === 'destroy') {
      tokens.expect('handle', 'rules are deleted by handle: nft -a list shows them');
      this.#commands.push({ op, what: 'rule', ...place, chain, handle: readNumber(tokens, 'a handle') });
      return;
    }
    if (op === 'replace') {
      tokens.expect('handle', 'rules are replaced by handle: nft -a list shows them');
      const handle = readNumber(tokens, 'a handle');
      this.#commands.push({ op, what: 'rule', ...place, chain, handle, rule: readRule(tokens) });
      return;
    }
    if (op !== 'add' && op !== 'create' && op !== 'insert') throw this.#noSuch(op, 'rule');
    const where = this.#rulePlace();
    const rule: Rule = readRule(tokens);
    this.#commands.push({ op, what: 'rule', ...place, chain, rule, ...(where ? { place: where } : {}) });
  }

  #rulePlace(): RulePlace | undefined {
    const tokens = this.#tokens;
    const kind = tokens.text;
    if (kind !== 'handle' && kind !== 'index' && kind !== 'position') return undefined;
    tokens.next();
    return { kind: kind === 'index' ? 'index' : 'handle', value: readNumber(tokens, `the ${kind}`) };
  }

  #named(what: string): Named {
    const tokens = this.#tokens;
    if (!tokens.take('handle')) return { name: readName(tokens, what) };
    return { handle: readNumber(tokens, 'a handle') };
  }

  #place(line: number): Place {
    return { line, family: this.#family(), table: readName(this.#tokens, 'a table') };
  }

  /** Left out, it is ip. */
  #family(): Family {
    const tokens = this.#tokens;
    const text = tokens.text;
    if (tokens.kind === 'word' && FAMILIES.includes(text)) {
      tokens.next();
      return text as Family;
    }
    if (text === 'arp' || text === 'bridge' || text === 'netdev') {
      throw tokens.fault(`tables of family ${text} are not read here`, 'use ip, ip6 or inet');
    }
    return 'ip';
  }

  #comment(): string {
    const tokens = this.#tokens;
    if (tokens.kind !== 'quoted' && tokens.kind !== 'word') {
      throw tokens.fault(`${tokens.shown()} is no comment`, 'write comment "text"');
    }
    const { text } = tokens;
    tokens.next();
    return text;
  }

  #noSuch(op: string, what: string): Error {
    return this.#tokens.fault(`there is no ${op} ${what}`, `use add ${what} or delete ${what}`);
  }

  #end(): void {
    const tokens = this.#tokens;
    if (tokens.atEnd) {
      if (tokens.kind !== 'end') tokens.next();
      return;
    }
    throw tokens.fault(`${tokens.shown()} after a complete command`, 'end a command by a new line or by ;');
  }
}
