import { DATATYPES } from './datatypes.ts';
import { readElements } from './reader-value.ts';
import { numberOfText, readNumber, readTime } from './reader-word.ts';
import { readRule } from './reader-rule.ts';
import type { BaseChain, ChainSpec, Element, Rule, SetFlag, SetSpec } from './statement.ts';
import type { Tokens } from './tokens.ts';

const HOOKS: readonly string[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'];

/** Types that a set can be declared with. */
const SET_TYPES: readonly string[] = [...DATATYPES.keys()].filter(
  (name) => name !== 'integer' && name !== 'ports',
);

/** Standard priorities of the families ip, ip6 and inet (nftables 1.0.6, src/rule.c, std_prios). */
export const PRIORITIES: readonly (readonly [string, number, string | undefined])[] = [
  ['raw', -300, undefined],
  ['mangle', -150, undefined],
  ['dstnat', -100, 'prerouting'],
  ['filter', 0, undefined],
  ['security', 50, undefined],
  ['srcnat', 100, 'postrouting'],
];

/** `{ type … ; policy …; rules }` */
export function readChainBody(
  tokens: Tokens,
  name: string,
): { chain: ChainSpec; rules: { rule: Rule; line: number }[] } {
  const rules: { rule: Rule; line: number }[] = [];
  let base: BaseChain | undefined;
  let policy: BaseChain['policy'] = 'accept';
  let comment: string | undefined;
  tokens.expect('{', `write chain ${name} { … }`);
  for (;;) {
    while (tokens.kind === 'line' || tokens.is(';')) tokens.next();
    if (tokens.take('}')) break;
    const line = tokens.line;
    if (tokens.take('type')) base = readBase(tokens);
    else if (tokens.take('policy')) {
      if (!tokens.is('accept') && !tokens.is('drop')) {
        throw tokens.fault(`policy ${tokens.shown()}`, 'a policy is accept or drop');
      }
      policy = tokens.text as BaseChain['policy'];
      tokens.next();
    } else if (tokens.take('comment')) comment = readText(tokens);
    else rules.push({ rule: readRule(tokens), line });
    if (!tokens.atEnd || tokens.kind === 'end') {
      throw tokens.fault(`${tokens.shown()} after a rule`, 'end each rule by a new line or by ;');
    }
  }
  const chain: ChainSpec = {
    name,
    ...(base === undefined ? {} : { base: { ...base, policy } }),
    ...(comment === undefined ? {} : { comment }),
    rules: [],
  };
  return { chain, rules };
}

/** `filter hook input priority dstnat - 10` */
function readBase(tokens: Tokens): BaseChain {
  const type = tokens.text;
  if (type !== 'filter' && type !== 'nat' && type !== 'route') {
    throw tokens.fault(`chains of type ${tokens.shown()}`, 'a type is filter, nat or route');
  }
  tokens.next();
  tokens.expect('hook', 'write type filter hook input priority 0');
  const hook = tokens.text;
  if (!HOOKS.includes(hook)) {
    throw tokens.fault(`hook ${tokens.shown()} is not read here`, `hooks are ${HOOKS.join(', ')}`);
  }
  tokens.next();
  tokens.expect('priority', 'write type filter hook input priority 0');
  return { type, hook: hook as BaseChain['hook'], priority: readPriority(tokens, hook), policy: 'accept' };
}

function readPriority(tokens: Tokens, hook: string): number {
  let priority = 0;
  if (tokens.kind === 'word') {
    const known = PRIORITIES.find(([name]) => name === tokens.text);
    if (known === undefined || (known[2] !== undefined && known[2] !== hook)) {
      const names = PRIORITIES.filter(([, , only]) => only === undefined || only === hook);
      throw tokens.fault(
        `priority ${tokens.shown()} at hook ${hook}`,
        `write a number, or one of ${names.map(([name]) => name).join(', ')}`,
      );
    }
    priority = known[1];
    tokens.next();
  }
  const sign = tokens.is('-') ? -1 : 1;
  if (tokens.is('-') || tokens.is('+')) tokens.next();
  else if (tokens.kind !== 'number') return priority;
  return priority + sign * readNumber(tokens, 'a priority');
}

/** `{ type … ; flags … ; elements = { … } }` */
export function readSetBody(
  tokens: Tokens,
  name: string,
  what: 'set' | 'map',
): { set: SetSpec; elements: Element[] } {
  const set: { -readonly [K in keyof SetSpec]: SetSpec[K] } = { name, types: [], flags: [], elements: [] };
  let elements: Element[] = [];
  const start = tokens.start;
  const line = tokens.line;
  tokens.expect('{', `write ${what} ${name} { type … }`);
  for (;;) {
    while (tokens.kind === 'line' || tokens.is(';')) tokens.next();
    if (tokens.take('}')) break;
    if (tokens.take('elements')) {
      tokens.expect('=', 'write elements = { … }');
      elements = readElements(tokens);
    } else readProperty(tokens, set, what);
    if (!tokens.atEnd && !tokens.is('}')) {
      throw tokens.fault(`${tokens.shown()} after a property of ${name}`, 'end each by a new line or by ;');
    }
  }
  if (set.types.length === 0 || (what === 'map') !== (set.data !== undefined)) {
    const wanted = what === 'map' ? 'type KEY : DATA' : 'type KEY';
    throw tokens.fault(`${what} ${name} has no ${wanted}`, `write ${wanted}`, start, line);
  }
  return { set, elements };
}

function readProperty(
  tokens: Tokens,
  set: { -readonly [K in keyof SetSpec]: SetSpec[K] },
  what: string,
): void {
  if (tokens.take('type')) {
    set.types = readTypes(tokens);
    if (what === 'map' && tokens.take(':'))
      set.data = tokens.take('verdict') ? ['verdict'] : readTypes(tokens);
  } else if (tokens.take('flags')) set.flags = readFlags(tokens);
  else if (tokens.take('timeout')) set.timeoutMs = readTime(tokens);
  else if (tokens.take('gc-interval')) set.gcIntervalMs = readTime(tokens);
  else if (tokens.take('size')) set.size = readNumber(tokens, 'a size');
  else if (tokens.take('comment')) set.comment = readText(tokens);
  else if (tokens.take('policy')) {
    if (tokens.take('memory')) set.policy = 'memory';
    else tokens.expect('performance', 'a policy is performance or memory');
  } else {
    const hint = tokens.is('typeof')
      ? 'name the type: type ipv4_addr'
      : 'type, flags, timeout, gc-interval, size, policy, comment and elements are';
    throw tokens.fault(`${tokens.shown()} in a ${what} is not read here`, hint);
  }
}

function readTypes(tokens: Tokens): string[] {
  const types: string[] = [];
  do {
    if (!SET_TYPES.includes(tokens.text)) {
      throw tokens.fault(`type ${tokens.shown()} is not known`, `types are ${SET_TYPES.join(', ')}`);
    }
    types.push(tokens.text);
    tokens.next();
  } while (tokens.take('.'));
  return types;
}

function readFlags(tokens: Tokens): SetFlag[] {
  const flags: SetFlag[] = [];
  do {
    const flag = tokens.text;
    if (flag !== 'constant' && flag !== 'interval' && flag !== 'timeout' && flag !== 'dynamic') {
      throw tokens.fault(`flag ${tokens.shown()}`, 'flags are constant, interval, timeout and dynamic');
    }
    flags.push(flag);
    tokens.next();
  } while (tokens.take(','));
  return flags;
}

function readText(tokens: Tokens): string {
  if (tokens.kind !== 'quoted' && tokens.kind !== 'word' && numberOfText(tokens.text) === undefined) {
    throw tokens.fault(`${tokens.shown()} is no comment`, 'write comment "text"');
  }
  const { text } = tokens;
  tokens.next();
  return text;
}
