import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

import test from 'ava';
import fc from 'fast-check';

import { jsonText } from '../src/nf-tables/language/json.ts';
import { jsonStatement } from '../src/nf-tables/language/json-rule.ts';
import {
  commandText,
  delinearize,
  elementsFrom,
  jsonRuleset,
  kernelElements,
  linearize,
  listRuleset,
  namedSetDescription,
  readNft,
  readRuleset,
  ruleInputText,
  ruleText,
  type Command,
  type Family,
  type KernelElement,
  type KernelSet,
  type Rule,
  type SetSpec,
  type TableSpec,
} from '../src/nf-tables/index.ts';
import { ProgramBuilder } from '../src/nf-tables/kernel/program.ts';
import { netlinkText } from './nft-netlink-text.ts';

const FIXTURES = new URL('fixtures/nft/', import.meta.url);
const LAYOUTS = ['l1-ip', 'l2-ip', 'l3-ip', 'l1-ip6', 'l2-ip6'].map((name) => `kube-proxy-${name}`);

const fixture = (name: string): string => readFileSync(new URL(name, FIXTURES), 'utf8');

/** What `nft --debug=netlink`, `nft -s list` and `nft -j list` said of one rule. */
interface Recorded {
  readonly family: Family;
  readonly rule: string;
  readonly error?: string;
  readonly program: readonly string[];
  readonly elements?: readonly (readonly string[])[];
  readonly sets?: readonly string[];
  readonly listing: string;
  readonly json: unknown;
}

/** The table in which the rules of rules.json were recorded. */
const SURROUNDINGS = `table inet t {
  map m4 { type ipv4_addr . inet_proto . inet_service : verdict; }
  map m6 { type ipv6_addr . inet_proto . inet_service : verdict; }
  set s4 { type ipv4_addr; }
  set s6 { type ipv6_addr; }
  set i4 { type ipv4_addr; flags interval; }
  map np { type inet_proto . inet_service : verdict; }
  set h4 { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
  set h6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service; }
  set d4 { type ipv4_addr; flags dynamic,timeout; timeout 10800s; }
  set d6 { type ipv6_addr; flags dynamic,timeout; timeout 10800s; }
}`;

/** Read on purpose not at all, or refused as not modelled; nft takes them. */
const NOT_MODELLED: readonly RegExp[] = [
  /^(?:log|limit|tcp flags|ct mark set|fib saddr \. iif oif|meta mark (?:>|1-5)|numgen random mod 10 <|update @d4 \{ ip saddr counter)/,
  /7-9 : accept/,
  / or 0x4000 xor /,
];

/** Numbers for the names of a table, as a kernel would keep them, and what anonymous sets it was given. */
class Names {
  readonly chains: string[] = [];
  readonly sets: SetSpec[] = [];
  readonly anonymous: KernelSet[] = [];
  readonly family: Family;

  constructor(family: Family, sets: readonly SetSpec[]) {
    this.family = family;
    this.sets.push(...sets);
  }

  readonly chain = (name: string): number => {
    if (!this.chains.includes(name)) this.chains.push(name);
    return this.chains.indexOf(name);
  };
  readonly chainName = (chain: number): string => this.chains[chain]!;
  readonly interfaceIndex = (name: string): number | undefined => (name === 'lo' ? 1 : undefined);
  readonly interfaceName = (index: number): string | undefined => (index === 1 ? 'lo' : undefined);

  named(name: string) {
    const id = this.sets.findIndex((set) => set.name === name);
    const set = this.sets[id];
    if (set === undefined) return undefined;
    return {
      id,
      types: set.types,
      ...(set.data ? { data: set.data } : {}),
      interval: set.flags.includes('interval'),
    };
  }

  program(rule: Rule): ProgramBuilder {
    this.anonymous.length = 0;
    const builder = new ProgramBuilder();
    linearize(
      rule,
      {
        family: this.family,
        chain: this.chain,
        interfaceIndex: this.interfaceIndex,
        set: (name) => this.named(name),
        anonymousSet: (set) => 1000 + this.anonymous.push(set) - 1,
      },
      builder,
    );
    return builder;
  }

  netlink(builder: ProgramBuilder): string[] {
    const setName = (set: number): string => {
      if (set < 1000) return this.sets[set]!.name;
      return this.anonymous[set - 1000]!.data ? '__map%d' : '__set%d';
    };
    return netlinkText(builder, setName, this.chainName);
  }

  /** The rule as it comes back from its program. */
  listed(builder: ProgramBuilder, rule: Rule): Rule {
    const back = delinearize(builder.words, 0, {
      family: this.family,
      chainName: this.chainName,
      interfaceName: this.interfaceName,
      set: (number) => {
        if (number < 1000) {
          return {
            ...this.named(this.sets[number]!.name)!,
            name: this.sets[number]!.name,
            anonymous: false,
            elements: () => [],
          };
        }
        const { types, data, description, elements } = this.anonymous[number - 1000]!;
        const { interval } = description;
        return {
          name: '',
          types,
          ...(data ? { data } : {}),
          anonymous: true,
          interval,
          elements: () => elements,
        };
      },
    });
    return rule.comment === undefined ? back : { ...back, comment: rule.comment };
  }

  elementText({ data }: Pick<KernelSet, 'data'>, element: KernelElement): string {
    const key = element.keyEnd ? `${hex(element.key)}  - ${hex(element.keyEnd)} ` : `${hex(element.key)} `;
    let value = '';
    if (element.data !== undefined) {
      const word = element.data[0]!;
      const kinds = ['drop', 'accept', 'continue', 'break', 'jump', 'goto', 'return'];
      const jumps = (word & 7) === 4 || (word & 7) === 5;
      value =
        data![0] === 'verdict'
          ? `${kinds[word & 7]}${jumps ? ` -> ${this.chainName(word >>> 3)}` : ''} `
          : `${hex(element.data)} `;
    }
    return `${key} : ${value}${element.intervalEnd ? 1 : 0}`;
  }
}

function hex(words: readonly number[]): string {
  return words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
}

function ruleOf(text: string, family: Family = 'ip'): Rule {
  const [command] = readNft(`add rule ${family} t f ${text}`, 'rule.nft');
  return (command as Extract<Command, { readonly rule: Rule }>).rule;
}

const RULES = JSON.parse(fixture('rules.json')) as readonly Recorded[];
const SETS = readRuleset(SURROUNDINGS, 'surroundings')[0]!.sets;
const modelled = (recorded: Recorded): boolean =>
  !NOT_MODELLED.some((pattern) => pattern.test(recorded.rule));

test('a rule becomes exactly the expressions, and its sets the elements, that nft sends', (t) => {
  for (const recorded of RULES) {
    if (recorded.error !== undefined || !modelled(recorded)) continue;
    const names = new Names(recorded.family, SETS);
    const about = `${recorded.family}: ${recorded.rule}`;
    const builder = names.program(ruleOf(recorded.rule, recorded.family));
    const program = recorded.program.map((line) => line.replace('pkts 5 bytes 300', 'pkts 0 bytes 0'));
    t.deepEqual(names.netlink(builder), program, about);
    const elements = names.anonymous.map((set) =>
      set.elements.map((element) => names.elementText(set, element)),
    );
    t.deepEqual(elements, recorded.elements ?? [], about);
    const sizes = names.anonymous.map((set) => set.description.size);
    t.deepEqual(
      sizes,
      (recorded.sets ?? []).map((line) => Number(/ size (\d+)/.exec(line)![1])),
      about,
    );
  }
});

test('what nft refuses is refused, and what is not modelled is refused by name', (t) => {
  for (const recorded of RULES) {
    if (recorded.error === undefined && modelled(recorded)) continue;
    const names = new Names(recorded.family, SETS);
    t.throws(
      () => {
        const rule = ruleOf(recorded.rule, recorded.family);
        linearize(
          rule,
          {
            family: recorded.family,
            chain: (name) => (name === 'x' ? 0 : undefined),
            interfaceIndex: names.interfaceIndex,
            set: (name) => names.named(name),
            anonymousSet: () => 0,
          },
          new ProgramBuilder(),
        );
      },
      { name: 'InputError' },
      recorded.rule,
    );
  }
});

test('a program is listed as nft lists it, in text and in JSON', (t) => {
  for (const recorded of RULES) {
    if (recorded.error !== undefined || !modelled(recorded)) continue;
    // The kernel keeps one of two equal elements.
    if (recorded.rule.includes('{ 10.0.0.1, 10.0.0.1 }')) continue;
    const names = new Names(recorded.family, SETS);
    const rule = ruleOf(recorded.rule, recorded.family);
    const back = names.listed(names.program(rule), rule);
    // Recorded without the counts (nft -s).
    t.is(ruleText(back).replace(' packets 0 bytes 0', ''), recorded.listing, recorded.rule);
    const json = back.statements.map((statement) => jsonStatement(statement, recorded.family));
    t.deepEqual(json, zeroCounts(recorded.json), recorded.rule);
  }
});

function zeroCounts(json: unknown): unknown {
  return JSON.parse(JSON.stringify(json).replace('"packets":5,"bytes":300', '"packets":0,"bytes":0'));
}

test('a listed rule is read and printed again unchanged', (t) => {
  for (const { listing, family, error } of RULES) {
    // A raw load cannot be read, and bits after an unwritten == mean something else when read.
    if (error !== undefined || listing.startsWith('@th') || listing.startsWith('ct state established |'))
      continue;
    if (NOT_MODELLED[0]!.test(listing) || /^ct mark set|fib saddr \. iif oif/.test(listing)) continue;
    t.is(ruleText(ruleOf(listing, family)).replace(' packets 0 bytes 0', ''), listing);
  }
});

for (const layout of LAYOUTS) {
  const [, name, family] = /-(l\d)-(ip6?)$/.exec(layout)!;

  test(`kube-proxy ${name} ${family}: each rule becomes the expressions that nft sends`, (t) => {
    const recorded = JSON.parse(fixture(`${layout}.netlink.json`)) as {
      readonly chain: string;
      readonly program: readonly string[];
      readonly sets: readonly (readonly string[])[];
    }[];
    const commands = readNft(fixture(`${layout}.nft`), layout);
    const [table] = readRuleset(fixture(`${layout}.nft`), layout);
    const names = new Names(family as Family, table!.sets);
    const added = commands.filter((command) => command.what === 'rule' && command.op === 'add');
    t.is(added.length, recorded.length);
    for (const [i, command] of added.entries()) {
      if (command.what !== 'rule' || command.op !== 'add') continue;
      const builder = names.program(command.rule);
      t.is(command.chain, recorded[i]!.chain);
      t.deepEqual(names.netlink(builder), recorded[i]!.program);
      t.deepEqual(
        names.anonymous.map((set) => set.elements.map((element) => names.elementText(set, element))),
        recorded[i]!.sets,
      );
    }
  });

  test(`kube-proxy ${name} ${family}: what is loaded is listed as nft lists it, in text and in JSON`, (t) => {
    const [table] = readRuleset(fixture(`${layout}.nft`), layout);
    const loaded = loadedAgain(table!);
    t.is(`${[...listRuleset([loaded])].join('\n')}\n`, fixture(`${layout}.list`));
    t.deepEqual(
      withoutHandles([...jsonRuleset([loaded])].join('')),
      withoutHandles(fixture(`${layout}.json`)),
    );
  });

  test(`kube-proxy ${name} ${family}: commands are printed as they were written`, (t) => {
    const text = fixture(`${layout}.nft`);
    const printed = readNft(text, layout).map(commandText).join('\n');
    t.is(
      `${printed}\n`,
      text
        .replaceAll('or 0x4000', 'or 0x00004000')
        .replaceAll('and 0x4000', 'and 0x00004000')
        .replaceAll('xor 0x4000', 'xor 0x00004000'),
    );
  });
}

/** Through programs and kernel elements, and back. */
function loadedAgain(table: TableSpec): TableSpec {
  const names = new Names(table.family, table.sets);
  const sets = table.sets.map((set) => {
    const kernel = kernelElements(set, set.elements, names, true);
    const { interval } = namedSetDescription(set);
    return { ...set, elements: elementsFrom(set, interval, kernel, names) };
  });
  const chains = table.chains.map((chain) => ({
    ...chain,
    rules: chain.rules.map((rule) => names.listed(names.program(rule), rule)),
  }));
  return { ...table, sets, chains };
}

function withoutHandles(json: string): unknown {
  return JSON.parse(json, (name, value: unknown) => (name === 'handle' ? 0 : value));
}

test('listings are read and printed again unchanged', (t) => {
  for (const name of [...LAYOUTS, 'sets']) {
    const text = fixture(`${name}.list`);
    t.is(`${[...listRuleset(readRuleset(text, name))].join('\n')}\n`, text);
  }
});

test('sets of every type, priorities, policies and comments are listed as nft lists them', (t) => {
  const tables = readRuleset(fixture('sets.nft'), 'sets.nft');
  t.is(`${[...listRuleset(tables)].join('\n')}\n`, fixture('sets.list'));
  t.is(`${[...jsonRuleset(tables)].join('')}\n`, fixture('sets.json'));
});

test('a block sends its chains first, then each set with its elements, then the rules', (t) => {
  const commands = readNft(
    'table ip t {\n set a { type ipv4_addr; elements = { 1.2.3.4 } }\n chain c {\n  ip saddr @a drop\n }\n map b { type ipv4_addr : verdict; }\n}\n',
    'x',
  );
  t.deepEqual(
    commands.map((command) => `${command.op} ${command.what} ${command.line}`),
    ['add table 1', 'add chain 3', 'add set 2', 'add element 2', 'add map 6', 'add rule 4'],
  );
});

test('commands of every kind are read', (t) => {
  const text = `# a comment
add table ip k { comment "rules for kube-proxy" ; }
create chain ip k c { type nat hook prerouting priority dstnat - 10; policy drop; comment "c"; }
add chain ip k d; add rule ip k d jump e
insert rule ip k d index 0 counter packets 3 bytes 4 accept
replace rule ip k d handle 7 \\
  drop
delete rule ip k d handle 8
flush chain ip k d
delete chain ip k d
destroy chain ip k e
delete set ip k handle 9
flush set ip k s
delete element ip k s { 1.2.3.4,
  1.2.3.5 }
flush table ip6 k
delete table k
flush ruleset
flush ruleset inet`;
  t.deepEqual(readNft(text, 'x').map(commandText), [
    'add table ip k { comment "rules for kube-proxy" ; }',
    'create chain ip k c { type nat hook prerouting priority -110 ; policy drop ; comment "c" ; }',
    'add chain ip k d',
    'add rule ip k d jump e',
    'insert rule ip k d index 0 counter accept',
    'replace rule ip k d handle 7 drop',
    'delete rule ip k d handle 8',
    'flush chain ip k d',
    'delete chain ip k d',
    'destroy chain ip k e',
    'delete set ip k handle 9',
    'flush set ip k s',
    'delete element ip k s { 1.2.3.4, 1.2.3.5 }',
    'flush table ip6 k',
    'delete table ip k',
    'flush ruleset',
    'flush ruleset inet',
  ]);
});

test('a fault says file, line, column, what was wanted and the way out', (t) => {
  const faults: readonly [string, RegExp][] = [
    [
      'table ip t {\n chain c {\n  ip saddr 10.0.0.1 limit rate 5/second\n }\n}',
      /^x:3:21: "limit" is not read here; /,
    ],
    [
      'table ip t {\n chain c { accept }\n}',
      /^x:2:19: "}" right behind a rule; end each rule by a new line or by ;/,
    ],
    ['add rule ip t c log prefix "a"', /^x:1:17: "log" is not read here; /],
    ['define a = 5', /^x:1:1: "define" is not a command that is read here; write the values out/],
    ['add set ip t s { type ether_addr; }', /^x:1:23: type "ether_addr" is not known; types are ipv4_addr, /],
    ['add map ip t s { type ipv4_addr; }', /^x:1:16: map s has no type KEY : DATA; /],
    ['add element ip t s { 10.0.0.1/33 }', /^x:1:31: \/33 is no prefix here; a prefix is 0 to 32$/],
    ['add element ip t s { 10.0.0.256 }', /^x:1:22: 10.0.0.256 is no address; /],
    [
      'add chain ip t c { type filter hook output priority dstnat; }',
      /^x:1:53: priority "dstnat" at hook output; .*filter/,
    ],
    ['add rule ip t c comment "a', /^x:1:25: a quote is opened and not closed in its line; /],
    ['add table arp t', /^x:1:11: tables of family arp are not read here; use ip, ip6 or inet$/],
    ['add chain ip t "c"', /^x:1:16: "c" where the name of a chain was wanted; /],
    [
      'table ip t {\n chain c {\n',
      /^x:3:1: the end of the text where a statement was wanted|^x:3:1: a rule without/,
    ],
    ['add rule ip t c \u0007', /^x:1:17: /],
    ['table ip t { flowtable f { } }', /^x:1:14: "flowtable" in a table is not read here; /],
  ];
  for (const [text, message] of faults) {
    t.throws(() => readNft(text, 'x'), { name: 'InputError', message }, text);
  }
});

test('a rule that cannot be loaded says why, at its place', (t) => {
  const names = new Names('ip', SETS);
  const context = {
    family: 'ip' as const,
    place: { file: 'rules.nft', line: 12 },
    chain: (): undefined => undefined,
    set: (name: string) => names.named(name),
    anonymousSet: (): number => 0,
  };
  const faults: readonly [string, RegExp][] = [
    ['jump nowhere', /^rules.nft:12: chain nowhere does not exist in this table; add chain/],
    ['ip saddr @nothing', /^rules.nft:12: set nothing does not exist in this table; /],
    ['tcp dport @s4', /^rules.nft:12: set s4 holds ipv4_addr, and inet_service is looked up in it; /],
    ['dnat to 10.0.0.1:80', /^rules.nft:12: a port is translated, .*; write meta l4proto tcp/],
    ['iif eth0 accept', /^rules.nft:12: interface eth0 does not exist; match it by name/],
    ['tcp dport 70000 accept', /^rules.nft:12: 70000 is too large for inet_service; it has 16 bits$/],
    ['ip saddr fd00::1 accept', /^rules.nft:12: a value of kind address is no ipv4_addr; /],
  ];
  for (const [text, message] of faults) {
    t.throws(() => linearize(ruleOf(text), context, new ProgramBuilder()), { name: 'InputError', message });
  }
});

test('a comment that nft could not read is not written', (t) => {
  t.throws(() => ruleInputText({ statements: [], comment: 'say "hi"' }), { message: /quote/ });
});

function braces(value: fc.Arbitrary<unknown>): fc.Arbitrary<string> {
  return fc.uniqueArray(value, { minLength: 1, maxLength: 6 }).map((values) => `{ ${values.join(', ')} }`);
}

/** Rules that nft takes, in a table of this family. */
function rules(family: 'ip' | 'ip6' | 'inet'): fc.Arbitrary<string> {
  const ip = family === 'inet' ? fc.constantFrom('ip', 'ip6') : fc.constant(family);
  const byte = fc.oneof(fc.constantFrom(0, 1, 128, 255), fc.nat(255));
  const four = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'));
  const six = fc
    .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
    .map((groups) => groups.map((group) => group.toString(16)).join(':'));
  const address = (name: string): fc.Arbitrary<string> => (name === 'ip' ? four : six);
  const prefix = (name: string): fc.Arbitrary<string> =>
    fc.tuple(address(name), fc.nat(name === 'ip' ? 32 : 128)).map(([text, length]) => `${text}/${length}`);
  const either = (name: string): fc.Arbitrary<string> => fc.oneof(address(name), prefix(name));
  const port = fc.oneof(fc.constantFrom(0, 1, 80, 65535), fc.nat(65535));
  const side = fc.constantFrom('saddr', 'daddr');
  const operator = fc.constantFrom('', '!= ');

  return fc.tuple(ip, fc.constantFrom('tcp', 'udp', 'sctp')).chain(([name, proto]) => {
    const addresses = fc
      .tuple(side, operator, fc.oneof(either(name), braces(either(name)), braces(address(name))))
      .map(([field, op, right]) => `${name} ${field} ${op}${right}`);
    const ports = fc
      .tuple(
        fc.constantFrom(proto, proto, 'th'),
        fc.constantFrom('sport', 'dport'),
        fc.constantFrom('', '!= ', '< ', '>= '),
        port,
      )
      .map(([header, field, op, value]) => `${header} ${field} ${op}${value}`);
    const portSets = fc
      .tuple(fc.constantFrom('sport', 'dport'), operator, braces(port))
      .map(([field, op, set]) => `${proto} ${field} ${op}${set}`);
    const mark = fc.integer({ min: 0, max: 0xffffffff });
    const marks = fc.tuple(fc.integer({ min: 1, max: 0xfffffffe }), fc.constantFrom('==', '!='), mark);
    const other = fc.oneof(
      fc.constantFrom(
        'ct state new',
        'ct state established,related',
        'ct state { new, untracked }',
        'ct status dnat',
        'fib saddr type local',
        'fib daddr type { local, broadcast }',
        'iifname "veth*"',
        'oifname != "eth0"',
        'counter',
        `meta l4proto ${proto}`,
        'mark set mark or 0x4000',
        `${name} daddr . meta l4proto . th dport vmap ${name === 'ip' ? '@m4' : '@m6'}`,
      ),
      marks.map(([mask, op, value]) => `mark and ${mask} ${op} ${(value & mask) >>> 0}`),
      marks.map(([mask, , value]) => `mark set mark and ${mask} xor ${value}`),
    );
    const nat = fc
      .tuple(
        fc.uniqueArray(fc.tuple(address(name), port), { minLength: 1, maxLength: 5 }),
        fc.constantFrom('', ' fully-random'),
      )
      .map(([targets, flags]) => {
        const map = targets.map(([to, number], i) => `${i} : ${to} . ${number}`).join(' , ');
        return `meta l4proto ${proto} dnat ${name} addr . port to numgen random mod ${targets.length} map { ${map} }${flags}`;
      });
    const plainNat = fc
      .tuple(address(name), port)
      .map(
        ([to, number]) => `meta l4proto ${proto} dnat ${name} to ${name === 'ip' ? to : `[${to}]`}:${number}`,
      );
    const answer = { ip: 'icmp', ip6: 'icmpv6', inet: 'icmpx' }[family];
    const unreachable = family === 'ip6' ? 'no-route' : 'host-unreachable';
    const verdict = fc.constantFrom(
      'accept',
      'drop',
      'return',
      'jump x',
      'goto x',
      'reject',
      'masquerade',
      `reject with ${answer} type ${unreachable}`,
      ...(proto === 'tcp' ? ['reject with tcp reset'] : []),
    );
    return fc
      .tuple(
        fc.array(fc.oneof(addresses, addresses, ports, portSets, other), { maxLength: 4 }),
        fc.oneof(verdict, verdict, nat, plainNat),
      )
      .map(([matches, last]) => [...matches, last].join(' '));
  });
}

/** What a rule of a chain without sets is to the kernel. */
function expressions(family: Family, text: string): string[] {
  const [table] = readRuleset(
    `add table ${family} t\nadd chain ${family} t c\nadd rule ${family} t c ${text}\n`,
    'text',
  );
  const names = new Names(family, table!.sets);
  return names.netlink(names.program(table!.chains[0]!.rules[0]!));
}

test('what an answer implies of a packet is tested before everything else', (t) => {
  // As nft 1.0.6 --debug=netlink prints them.
  t.deepEqual(expressions('ip', 'ip saddr 10.0.0.1 reject with tcp reset'), [
    '[ meta load l4proto => reg 1 ]',
    '[ cmp eq reg 1 0x00000006 ]',
    '[ payload load 4b @ network header + 12 => reg 1 ]',
    '[ cmp eq reg 1 0x0100000a ]',
    '[ reject type 1 code 0 ]',
  ]);
  t.deepEqual(expressions('inet', 'iifname "eth0" reject with icmp type host-unreachable'), [
    '[ meta load nfproto => reg 1 ]',
    '[ cmp eq reg 1 0x00000002 ]',
    '[ meta load iifname => reg 1 ]',
    '[ cmp eq reg 1 0x30687465 0x00000000 0x00000000 0x00000000 ]',
    '[ reject type 0 code 1 ]',
  ]);
});

// Needs nft 1.0.6, root, and a kernel with nf_tables.
const probe = spawnSync('unshare', ['-n', 'nft', '-f', '-'], { input: 'table ip vipsim {\n}\n' });
const version = spawnSync('nft', ['--version']).stdout?.toString() ?? '';
const onReal = probe.status === 0 && version.includes('v1.0.6') ? test : test.skip;

function real(script: string, input: string): string {
  const { stdout, stderr, status } = spawnSync('unshare', ['-n', 'sh', '-c', script], {
    input,
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(`${stderr.toString()}\n${stdout.toString()}`);
  return stdout.toString();
}

/** The rules in a chain f of their own, and the sets that rules may fill, filled by some. */
function generated(family: Family, texts: readonly string[]): string {
  const fills = ['update @d4 { ip saddr }', 'update @d6 { ip6 saddr }'].filter(
    (_, i) => family === 'inet' || (i === 0) === (family === 'ip'),
  );
  return [
    SURROUNDINGS.replace('table inet t', `table ${family} t`)
      .split('\n')
      .filter((line) => family === 'inet' || !line.includes(family === 'ip' ? ' d6 ' : ' d4 '))
      .join('\n'),
    `add chain ${family} t x`,
    `add chain ${family} t f`,
    ...fills.map((text) => `add rule ${family} t x ${text}`),
    ...texts.map((text) => `add rule ${family} t f ${text}`),
    '',
  ].join('\n');
}

for (const family of ['ip', 'ip6', 'inet'] as const) {
  onReal(`generated rules of family ${family}: nft sends and lists the same`, (t) => {
    fc.assert(
      fc.property(fc.array(rules(family), { minLength: 20, maxLength: 40 }), (texts) => {
        const input = generated(family, texts);
        const script = `nft --debug=netlink -f -; echo =; nft list table ${family} t`;
        const [debug, listing] = real(script, input).split('\n=\n') as [string, string];
        const sent = [...debug.matchAll(new RegExp(`^${family} t f\\n((?:  \\[.*\\n?)+)`, 'gm'))];
        const [table] = readRuleset(input, 'generated');
        const names = new Names(family, table!.sets);
        for (const [i, rule] of table!.chains.find(({ name }) => name === 'f')!.rules.entries()) {
          const ours = names.netlink(names.program(rule)).map((line) => `  ${line}`);
          t.is(ours.join('\n'), sent[i]![1]!.trimEnd(), texts[i]);
        }
        t.is(`${[...listRuleset([loadedAgain(table!)])].join('\n')}\n`, listing);
      }),
      { seed: 42, numRuns: 8 },
    );
  });
}

onReal('whole rulesets loaded into a kernel are listed the same, handles and all', (t) => {
  for (const layout of LAYOUTS) {
    const text = fixture(`${layout}.list`);
    const both = real('nft -f -; nft list ruleset; echo =; nft -j list ruleset', text);
    const [listing, json] = both.split('\n=\n') as [string, string];
    const tables = readRuleset(text, layout);
    t.is([...listRuleset(tables)].join('\n'), listing);
    t.is(`${[...jsonRuleset(tables)].join('')}\n`, json);
  }
});

onReal('sets of generated elements are listed in the order of nft, wrapped as nft wraps them', (t) => {
  const byte = fc.nat(255);
  const four = fc.tuple(byte, byte, byte, byte).map((bytes) => bytes.join('.'));
  const port = fc.nat(65535);
  const tuple = fc.tuple(four, fc.constantFrom('tcp', 'udp', 'sctp'), port).map((parts) => parts.join(' . '));
  const kinds = fc.record({
    plain: fc.uniqueArray(four, { minLength: 1, maxLength: 9 }),
    ports: fc.uniqueArray(port, { minLength: 1, maxLength: 12 }),
    tuples: fc.uniqueArray(tuple, { minLength: 1, maxLength: 9 }),
    marks: fc.uniqueArray(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 12 }),
    names: fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9]{0,9}$/), { minLength: 1, maxLength: 9 }),
  });
  fc.assert(
    fc.property(kinds, ({ plain, ports, tuples, marks, names }) => {
      const input = `table ip t {
 set a { type ipv4_addr; elements = { ${plain.join(', ')} } }
 set b { type inet_service; elements = { ${ports.join(', ')} } }
 map c { type ipv4_addr . inet_proto . inet_service : verdict; elements = { ${tuples.map((key) => `${key} : drop`).join(', ')} } }
 set d { type mark; elements = { ${marks.join(', ')} } }
 set e { type ifname; elements = { ${names.map((name) => `"${name}"`).join(', ')} } }
 set f { type ipv4_addr . mark; elements = { ${marks.map((mark) => `10.0.0.1 . ${mark}`).join(', ')} } }
}
`;
      const listing = real('nft -f -; nft list ruleset', input);
      t.is(`${[...listRuleset([loadedAgain(readRuleset(input, 'sets')[0]!)])].join('\n')}\n`, listing);
    }),
    { seed: 42, numRuns: 15 },
  );
});

test('JSON has a blank behind commas and colons, and nothing else', (t) => {
  t.is(jsonText({ a: [1, 'b/"', null], c: {} }), '{"a": [1, "b/\\"", null], "c": {}}');
});
