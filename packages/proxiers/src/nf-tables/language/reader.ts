import { CommandReader } from './reader-command.ts';
import type { ChainSpec, Command, Element, Rule, SetSpec, TableSpec } from './statement.ts';
import { Tokens } from './tokens.ts';

/**
 * The commands of a text for `nft -f`: commands one to a line or parted by `;`, and `table … { … }` blocks, thus
 * also what `nft list ruleset` and `nft list table` print.
 * Not read: variables (`define`, `include`) and objects that are no part of a Service's path (flowtables, named
 * counters, quotas, limits); each is refused by name.
 * @throws InputError with file, line and column, what was wanted, and the way out.
 */
export function readNft(text: string, file: string): Command[] {
  const tokens = new Tokens(text, file);
  const commands: Command[] = [];
  const reader = new CommandReader(tokens, commands);
  for (;;) {
    while (tokens.kind === 'line' || tokens.is(';')) tokens.next();
    if (tokens.kind === 'end') return commands;
    reader.command();
  }
}

/**
 * The tables that a listing, or a text of commands that only make things, describes.
 * @throws InputError for what readNft refuses, and for commands that take away or refer to what is not there.
 */
export function readRuleset(text: string, file: string): TableSpec[] {
  const tables = new Map<string, TableDraft>();
  for (const command of readNft(text, file)) apply(tables, command, file);
  return [...tables.values()].map((draft) => draft.spec());
}

/** A table while its commands are gathered. */
class TableDraft {
  readonly family: TableSpec['family'];
  readonly name: string;
  comment: string | undefined;
  readonly sets = new Map<string, { readonly spec: SetSpec; readonly elements: Element[] }>();
  readonly chains = new Map<string, { readonly spec: ChainSpec; rules: Rule[] }>();

  constructor(family: TableSpec['family'], name: string) {
    this.family = family;
    this.name = name;
  }

  spec(): TableSpec {
    return {
      family: this.family,
      name: this.name,
      ...(this.comment === undefined ? {} : { comment: this.comment }),
      sets: [...this.sets.values()].map(({ spec, elements }) => ({ ...spec, elements })),
      chains: [...this.chains.values()].map(({ spec, rules }) => ({ ...spec, rules })),
    };
  }
}

function apply(tables: Map<string, TableDraft>, command: Command, file: string): void {
  if (command.what === 'ruleset') {
    for (const [key, table] of tables) {
      if (command.family === undefined || table.family === command.family) tables.delete(key);
    }
    return;
  }
  const key = `${command.family} ${command.table}`;
  let table = tables.get(key);
  if (command.what === 'table' && (command.op === 'add' || command.op === 'create')) {
    if (table === undefined) tables.set(key, (table = new TableDraft(command.family, command.table)));
    table.comment ??= command.comment;
    return;
  }
  const missing = (what: string): Error =>
    new Tokens('', file).fault(`${what} is not there`, 'make it first, in this text', 0, command.line);
  if (table === undefined) throw missing(`table ${key}`);
  if (command.op === 'add' || command.op === 'create') {
    switch (command.what) {
      case 'chain':
        if (!table.chains.has(command.chain.name)) {
          table.chains.set(command.chain.name, { spec: command.chain, rules: [] });
        }
        return;
      case 'set':
      case 'map':
        if (!table.sets.has(command.set.name)) {
          table.sets.set(command.set.name, { spec: command.set, elements: [] });
        }
        return;
      case 'element': {
        const set = table.sets.get(command.set);
        if (set === undefined) throw missing(`set ${command.set} of table ${key}`);
        for (const element of command.elements) set.elements.push(element);
        return;
      }
      case 'rule': {
        const chain = table.chains.get(command.chain);
        if (chain === undefined) throw missing(`chain ${command.chain} of table ${key}`);
        if (command.place === undefined) {
          chain.rules.push(command.rule);
          return;
        }
      }
    }
  }
  if (command.op === 'insert' && command.place === undefined) {
    const chain = table.chains.get(command.chain);
    if (chain === undefined) throw missing(`chain ${command.chain} of table ${key}`);
    chain.rules.unshift(command.rule);
    return;
  }
  if (command.op === 'flush' && command.what === 'chain') {
    const chain = table.chains.get(command.chain);
    if (chain === undefined) throw missing(`chain ${command.chain} of table ${key}`);
    chain.rules = [];
    return;
  }
  throw new Tokens('', file).fault(
    `${command.op} ${command.what} in a text that describes a ruleset`,
    'apply it to a ruleset that is loaded, or describe what remains',
    0,
    command.line,
  );
}
