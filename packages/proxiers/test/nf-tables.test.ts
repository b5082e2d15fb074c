import { Streams, jhash, jhash1 } from '@vipsim/sim-core';
import test from 'ava';
import fc from 'fast-check';
import { spawnSync } from 'node:child_process';
import type { BaseChain } from '../src/nf-tables/kernel/chains.ts';
import { ACCEPT, DROP, Evaluator, NAT_DESTINATION, NAT_SOURCE } from '../src/nf-tables/kernel/evaluator.ts';
import { expressionText } from '../src/nf-tables/kernel/expression-text.ts';
import { NfTablesError } from '../src/nf-tables/kernel/nf-error.ts';
import * as nft from '../src/nf-tables/kernel/program.ts';
import { NftRuleset } from '../src/nf-tables/node/ruleset.ts';
import {
  PLAIN_SET,
  chooseBackend,
  type ElementWords,
  type NfSet,
} from '../src/nf-tables/kernel/set-backend.ts';
import { BitmapSet } from '../src/nf-tables/kernel/sets/bitmap.ts';
import { FixedHash } from '../src/nf-tables/kernel/sets/fixed-hash.ts';
import { bigEndian } from '../src/nf-tables/kernel/sets/key-order.ts';
import { Pipapo } from '../src/nf-tables/kernel/sets/pipapo.ts';
import { RangeTree } from '../src/nf-tables/kernel/sets/rbtree.ts';
import { Rhash } from '../src/nf-tables/kernel/sets/rhash.ts';
import { SetArena } from '../src/nf-tables/kernel/sets/set-arena.ts';
import { SetList } from '../src/nf-tables/kernel/set-list.ts';
import { CT_ESTABLISHED, CT_NEW, STATUS_DNAT, Skb } from '../src/nf-tables/kernel/skb.ts';
import { NfTables } from '../src/nf-tables/kernel/tables.ts';
import { CONTINUED, EXCLUSIVE, INTERVAL_END, Transaction } from '../src/nf-tables/kernel/transaction.ts';
import { countUses } from '../src/nf-tables/kernel/uses.ts';

/**
 * nf_tables itself: sets by their real structures against plain maps, transactions against a running kernel, the
 * walk against expression counts taken from `nft --debug=netlink`.
 */

const OPERATIONS = {
  expressions: Array.from({ length: nft.OPCODES }, (_, i) => i),
  rule: nft.OPCODES,
  lookup: nft.OPCODES + 1,
  step: nft.OPCODES + 2,
};

function ip(a: number, b: number, c: number, d: number): number {
  return a | (b << 8) | (c << 16) | (d << 24);
}

function port(number: number): number {
  return ((number & 255) << 8) | (number >> 8);
}

function elementOf(words: readonly number[], more: Partial<ElementWords> = {}): ElementWords {
  return {
    words: Int32Array.from(words),
    at: 0,
    expiresMs: Infinity,
    timeoutMs: 0,
    intervalEnd: false,
    pending: false,
    ...more,
  };
}

function hit(set: NfSet, key: readonly number[], nowMs = 0): number | undefined {
  const registers = new Uint32Array(16);
  registers.set(key.map((word) => word >>> 0));
  const found = set.lookup(registers, 0, nowMs);
  return found < 0 ? undefined : set.dataWords > 0 ? set.data(found, 0) : 1;
}

// Sets.

test('keys hash as include/linux/jhash.h has it', (t) => {
  t.is(jhash1(0x0100000a, 0), 0x2fa5f781);
  t.is(jhash1(0xc0a80101, 0xdeadbeef), 0x90cc1b18);
  t.is(jhash(Uint32Array.of(0x0100000a, 0x50c3, 6), 12, 0x12345678), 0x8b6aad87);
  const text = new Uint32Array(new TextEncoder().encode('0123456789abcdefghijklmnopqrstuvwxyzABCD').buffer);
  t.is(jhash(text, 16, 0x12345678), 0xd7d710c1);
  t.is(jhash(text, 40, 0x12345678), 0xf9e2e146);
});

const pick = (more: object): string | undefined => chooseBackend({ ...PLAIN_SET, ...more });

test('the kernel picks the backend by flags, key length and size', (t) => {
  t.is(pick({ keyBytes: 12, dataWords: 1, verdicts: true }), 'rhash');
  t.is(pick({}), 'rhash');
  t.is(pick({ size: 3, anonymous: true }), 'hash_fast');
  t.is(pick({ size: 3, keyBytes: 8 }), 'hash');
  t.is(pick({ size: 2, keyBytes: 2, dataWords: 1 }), 'hash');
  t.is(pick({ size: 2, keyBytes: 2 }), 'bitmap');
  t.is(pick({ keyBytes: 2 }), 'bitmap');
  t.is(pick({ keyBytes: 2, timeout: true }), 'rhash');
  t.is(pick({ dynamic: true, timeout: true, size: 65535 }), 'rhash');
  t.is(pick({ interval: true }), 'rbtree');
  t.is(pick({ interval: true, keyBytes: 8, fields: [4, 2] }), 'pipapo');
  t.is(pick({ interval: true, dynamic: true }), undefined);
});

/** A key of so many words. */
const keyWordsOf = (words: number, key: number): number[] =>
  Array.from({ length: words }, (_, i) => (i === 1 ? 99 : key));

const KEY = fc.integer({ min: 0, max: 40 });
const STEPS_OF_A_SET = fc.array(fc.record({ add: fc.boolean(), key: KEY, data: fc.nat(9) }), {
  maxLength: 200,
});

for (const [name, make, words] of [
  ['rhash', () => new Rhash({ ...PLAIN_SET, dataWords: 1 }, 7), 1],
  ['rhash of three words', () => new Rhash({ ...PLAIN_SET, keyBytes: 12, dataWords: 1 }, 7), 3],
  ['hash_fast', () => new FixedHash({ ...PLAIN_SET, dataWords: 1, size: 41 }, 7, new SetArena()), 1],
  ['hash', () => new FixedHash({ ...PLAIN_SET, keyBytes: 8, dataWords: 1, size: 41 }, 7, new SetArena()), 2],
  ['bitmap', () => new BitmapSet({ ...PLAIN_SET, keyBytes: 2 }), 1],
] as const) {
  test(`${name} holds what a plain map holds, whatever is added and removed`, (t) => {
    fc.assert(
      fc.property(STEPS_OF_A_SET, (steps) => {
        const set: NfSet = make();
        const plain = new Map<number, number>();
        for (const { add, key, data } of steps) {
          if (add) {
            const answer = set.insert(elementOf([...keyWordsOf(words, key), data]), 0);
            t.is(answer < 0, plain.has(key));
            if (answer >= 0) plain.set(key, set.dataWords > 0 ? data : 1);
          } else {
            const found = set.find(elementOf(keyWordsOf(words, key)), 0);
            t.is(found >= 0, plain.has(key));
            if (found >= 0) set.remove(found);
            plain.delete(key);
          }
          t.is(set.count, plain.size);
        }
        for (let key = 0; key <= 40; key++) t.is(hit(set, keyWordsOf(words, key)), plain.get(key));
        const walked: number[] = [];
        set.forEach((element) => walked.push(set.key(element, 0)));
        t.deepEqual(
          walked.sort((a, b) => a - b),
          [...plain.keys()].sort((a, b) => a - b),
        );
      }),
      { seed: 42, numRuns: 100 },
    );
  });
}

test('rhash doubles above three quarters and shrinks below three tenths, from four buckets on', (t) => {
  const set = new Rhash(PLAIN_SET, 1);
  const sizes = new Map<number, number>();
  for (let n = 1; n <= 100; n++) {
    set.insert(elementOf([n]), 0);
    sizes.set(n, set.buckets);
  }
  for (const [n, buckets] of [
    [3, 4],
    [4, 8],
    [6, 8],
    [7, 16],
    [12, 16],
    [13, 32],
    [96, 128],
    [97, 256],
  ]) {
    t.is(sizes.get(n!), buckets, `${n} elements`);
  }
  // 256 buckets hold until fewer than 76 elements are left; 75 then need 112, which is 128.
  for (let n = 100; n > 76; n--) set.remove(set.find(elementOf([n]), 0));
  t.is(set.buckets, 256);
  set.remove(set.find(elementOf([76]), 0));
  t.is(set.buckets, 128);
});

test('a lookup in rhash walks the chain of its bucket from the newest element on', (t) => {
  const seed = 5;
  const set = new Rhash(PLAIN_SET, seed);
  const sameBucket: number[] = [];
  for (let key = 1; sameBucket.length < 3; key++) if ((jhash1(key, seed) & 3) === 2) sameBucket.push(key);
  for (const key of sameBucket) set.insert(elementOf([key]), 0);
  t.deepEqual(
    sameBucket.map((key) => {
      hit(set, [key]);
      return set.steps;
    }),
    [3, 2, 1],
  );
});

test('a set for many elements has as many buckets from the start, and no fewer steps for it', (t) => {
  const large = new Rhash({ ...PLAIN_SET, size: 65535, timeout: true }, 1);
  t.is(large.buckets, 131072);
  for (let n = 0; n < 300; n++) large.insert(elementOf([n]), 0);
  t.is(large.buckets, 131072);
  for (let n = 0; n < 300; n++) {
    t.is(hit(large, [n]), 1);
    const bucket = jhash1(n, 1) & 131071;
    const later = Array.from({ length: 300 - n }, (_, i) => n + i).filter(
      (m) => (jhash1(m, 1) & 131071) === bucket,
    );
    t.is(large.steps, later.length);
  }
});

test('expired elements are not found, may be added again, and are collected once their time has come', (t) => {
  const set = new Rhash({ ...PLAIN_SET, timeout: true, timeoutMs: 100 }, 1);
  set.insert(elementOf([1], { expiresMs: 100 }), 0);
  set.insert(elementOf([2], { expiresMs: 200 }), 0);
  t.is(hit(set, [1], 99), 1);
  t.is(hit(set, [1], 100), undefined);
  t.true(set.insert(elementOf([1], { expiresMs: 300 }), 150) >= 0);
  t.is(set.count, 3);
  t.is(set.collect(150), 1);
  t.is(set.collect(250), 1);
  t.is(hit(set, [1], 250), 1);
  t.is(set.count, 1);
});

test('a range tree answers as a list of ranges does, in a logarithm of steps', (t) => {
  const cut = fc.uniqueArray(fc.integer({ min: 1, max: 60000 }), { minLength: 2, maxLength: 60 });
  fc.assert(
    fc.property(cut, fc.array(fc.nat(60001), { maxLength: 50 }), fc.nat(3), (cuts, probes, dropped) => {
      const bounds = cuts.sort((a, b) => a - b).slice(0, cuts.length & ~1);
      const set = new RangeTree({ ...PLAIN_SET, interval: true });
      let ranges: [number, number][] = [];
      for (let i = 0; i < bounds.length; i += 2) ranges.push([bounds[i]!, bounds[i + 1]!]);
      for (const [from, to] of ranges) {
        t.true(set.insert(elementOf([bigEndian(from) | 0])) >= 0);
        t.true(set.insert(elementOf([bigEndian(to) | 0], { intervalEnd: true })) >= 0);
      }
      ranges = ranges.filter(([from, to], i) => {
        if (i % 4 !== dropped) return true;
        set.remove(set.find(elementOf([bigEndian(from) | 0])));
        set.remove(set.find(elementOf([bigEndian(to) | 0], { intervalEnd: true })));
        return false;
      });
      for (const probe of [...probes, ...bounds]) {
        const inside = ranges.some(([from, to]) => from <= probe && probe < to);
        t.is(hit(set, [bigEndian(probe)]) === 1, inside, `${probe}`);
        t.true(set.steps <= set.levels);
      }
      t.is(set.count, 2 * ranges.length);
      t.true(set.levels <= 2 * (33 - Math.clz32(set.count + 1)));
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('pipapo answers as a list of ranges does, also after removals', (t) => {
  const range = fc.tuple(fc.nat(65535), fc.nat(300));
  const element = fc.record({ address: fc.tuple(fc.nat(0xffff), fc.nat(0x1ff)), port: range });
  const SOME = fc.array(element, { minLength: 1, maxLength: 25 });
  fc.assert(
    fc.property(
      SOME,
      fc.array(fc.tuple(fc.nat(0x10200), fc.nat(65535)), { maxLength: 40 }),
      (elements, probes) => {
        const set = new Pipapo({ ...PLAIN_SET, keyBytes: 8, interval: true, fields: [4, 2] });
        const kept: { id: number; a: [number, number]; p: [number, number] }[] = [];
        for (const { address, port: ports } of elements) {
          const a: [number, number] = [address[0], address[0] + address[1]];
          const p: [number, number] = [ports[0], Math.min(65535, ports[0] + ports[1])];
          const words = [bigEndian(a[0]) | 0, port(p[0]), bigEndian(a[1]) | 0, port(p[1])];
          const id = set.insert(elementOf(words), 0);
          if (id >= 0) kept.push({ id, a, p });
        }
        for (let i = kept.length - 1; i >= 0; i -= 3) {
          set.remove(kept[i]!.id);
          kept.splice(i, 1);
        }
        set.commit();
        const corners = kept.flatMap(({ a, p }) => [
          [a[0], p[0]],
          [a[1], p[1]],
          [a[1] + 1, p[0]],
          [a[0], p[1] + 1],
        ]);
        for (const [address, number] of [...probes, ...corners] as [number, number][]) {
          if (number > 65535) continue;
          const inside = kept.some(
            ({ a, p }) => a[0] <= address && address <= a[1] && p[0] <= number && number <= p[1],
          );
          t.is(hit(set, [bigEndian(address), port(number)]) === 1, inside, `${address} ${number}`);
        }
      },
    ),
    { seed: 42, numRuns: 150 },
  );
});

test('a large pipapo table goes over to groups of four bits, and answers the same', (t) => {
  const set = new Pipapo({ ...PLAIN_SET, keyBytes: 8, interval: true, fields: [4, 2] });
  set.insert(elementOf([bigEndian(0), port(1), bigEndian(0), port(1)], { pending: true }), 0);
  // 4 groups of 256 values, 8 bytes for 64 rules: 2 MiB are passed at 16,385 rules.
  for (let i = 1; i < 16500; i++) {
    set.insert(
      elementOf([bigEndian(i * 3) | 0, port(1), bigEndian(i * 3) | 0, port(1)], { pending: true }),
      0,
    );
    if (i % 4000 === 0) set.commit();
  }
  set.forEach((element) => set.setPending(element, false));
  set.commit();
  t.is(hit(set, [bigEndian(30000), port(1)]), 1);
  // Eight groups of four bits over 258 words of 64 rules, then four of the port: its table is as long.
  t.is(set.steps, 8 * 258 + 2 * 258);
  t.is(hit(set, [bigEndian(30001), port(1)]), undefined);
  t.is(hit(set, [bigEndian(30000), port(2)]), undefined);
});

test('the place of a set in its table is what a walk through the list would count', (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat(60), { maxLength: 200 }), (steps) => {
      const list = new SetList();
      const naive: number[] = [];
      for (const set of steps) {
        const at = naive.indexOf(set);
        if (at < 0) {
          naive.push(set);
          list.append(set);
        } else {
          t.is(list.place(set), at + 1);
          naive.splice(at, 1);
          list.remove(set);
        }
      }
      t.deepEqual([...list], naive);
      for (const [i, set] of naive.entries()) t.is(list.place(set), i + 1);
    }),
    { seed: 42, numRuns: 200 },
  );
});

// Transactions.

const FILTER_INPUT: BaseChain = { type: 'filter', hook: 'input', priority: 0, policy: 'accept' };
const NAT_PREROUTING: BaseChain = { type: 'nat', hook: 'prerouting', priority: -100, policy: 'accept' };

class Lab {
  readonly kernel = new NfTables(1);
  readonly transaction = new Transaction(this.kernel);
  readonly table = this.transaction.addTable('ip', 't');
  readonly builder = new nft.ProgramBuilder();

  chain(base?: BaseChain): number {
    const chain = this.kernel.reserveChain();
    this.transaction.addChain(this.table, chain, base);
    return chain;
  }

  set(more: Partial<typeof PLAIN_SET> = {}): number {
    const set = this.kernel.reserveSet();
    this.transaction.addSet(this.table, set, { ...PLAIN_SET, ...more });
    return set;
  }

  rule(chain: number, write: (rule: nft.ProgramBuilder) => void): void {
    this.builder.reset().rule();
    write(this.builder);
    this.transaction.addRules(chain, this.builder.end());
  }

  commit(): ReturnType<Transaction['prepare']> {
    const counts = this.transaction.prepare();
    this.transaction.commit();
    return counts;
  }

  errno(): string {
    try {
      this.transaction.prepare();
      this.transaction.abort();
      return '';
    } catch (error) {
      this.transaction.clear();
      return (error as NfTablesError).errno;
    }
  }
}

/** What is wrong, as a batch for the kernel in text and for ours in calls; the answer is that of Linux 6.18. */
const REFUSALS: readonly { title: string; text: string; errno: string; make(lab: Lab): void }[] = [
  {
    title: 'a loop that a base chain reaches',
    text: 'table ip t { chain a { jump b; }; chain b { jump a; }; chain i { type filter hook input priority 0; jump a; }; }',
    errno: 'EMLINK',
    make(lab) {
      const [a, b, i] = [lab.chain(), lab.chain(), lab.chain(FILTER_INPUT)];
      lab.rule(a, (rule) => rule.verdict(nft.JUMP, b));
      lab.rule(b, (rule) => rule.verdict(nft.JUMP, a));
      lab.rule(i, (rule) => rule.verdict(nft.JUMP, a));
    },
  },
  {
    title: 'a loop that nothing reaches',
    text: 'table ip t { chain a { jump b; }; chain b { jump a; }; }',
    errno: '',
    make(lab) {
      const [a, b] = [lab.chain(), lab.chain()];
      lab.rule(a, (rule) => rule.verdict(nft.JUMP, b));
      lab.rule(b, (rule) => rule.verdict(nft.JUMP, a));
    },
  },
  {
    title: 'a loop through a map',
    text: 'table ip t { map s { type ipv4_addr : verdict; elements = { 1.2.3.4 : jump a }; }; chain a { ip daddr vmap @s; }; chain i { type filter hook input priority 0; jump a; }; }',
    errno: 'EMLINK',
    make(lab) {
      const [a, i, s] = [lab.chain(), lab.chain(FILTER_INPUT), lab.set({ dataWords: 1, verdicts: true })];
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)], [nft.verdictWord(nft.JUMP, a)]);
      lab.rule(a, (rule) => rule.payload(nft.NETWORK, 16, 4, 0).lookup(s, 0, nft.VERDICT));
      lab.rule(i, (rule) => rule.verdict(nft.JUMP, a));
    },
  },
  ...([15, 16] as const).flatMap((jumps) =>
    (['jump', 'goto'] as const).map((word) => ({
      title: `${jumps} times ${word} one after the other`,
      text: `table ip t { ${Array.from({ length: jumps }, (_, n) => `chain c${n + 1} { ${n + 1 < jumps ? `${word} c${n + 2}` : 'drop'}; };`).join(' ')} chain i { type filter hook input priority 0; ${word} c1; }; }`,
      errno: jumps === 16 ? 'EMLINK' : '',
      make(lab: Lab) {
        const chains = Array.from({ length: jumps }, () => lab.chain());
        const kind = word === 'jump' ? nft.JUMP : nft.GOTO;
        for (let n = 0; n + 1 < jumps; n++) lab.rule(chains[n]!, (rule) => rule.verdict(kind, chains[n + 1]));
        lab.rule(chains.at(-1)!, (rule) => rule.verdict(nft.DROP));
        lab.rule(lab.chain(FILTER_INPUT), (rule) => rule.verdict(kind, chains[0]));
      },
    })),
  ),
  {
    title: 'a jump to a chain that is not there',
    text: 'table ip t { chain a { jump zz; }; }',
    errno: 'ENOENT',
    make(lab) {
      lab.rule(lab.chain(), (rule) => rule.verdict(nft.JUMP, lab.kernel.reserveChain()));
    },
  },
  {
    title: 'a jump to a base chain',
    text: 'table ip t { chain a { jump i; }; chain i { type filter hook input priority 0; }; }',
    errno: 'EOPNOTSUPP',
    make(lab) {
      const [a, i] = [lab.chain(), lab.chain(FILTER_INPUT)];
      lab.rule(a, (rule) => rule.verdict(nft.JUMP, i));
    },
  },
  {
    title: 'deleting a chain that a rule jumps to',
    text: 'table ip t { chain a { jump b; }; chain b { accept; }; }\ndelete chain ip t b',
    errno: 'EBUSY',
    make(lab) {
      const [a, b] = [lab.chain(), lab.chain()];
      lab.rule(a, (rule) => rule.verdict(nft.JUMP, b));
      lab.transaction.deleteChain(b);
    },
  },
  {
    title: 'deleting a chain with rules of its own',
    text: 'table ip t { chain b { accept; }; }\ndelete chain ip t b',
    errno: '',
    make(lab) {
      const b = lab.chain();
      lab.rule(b, (rule) => rule.verdict(nft.ACCEPT));
      lab.transaction.deleteChain(b);
    },
  },
  {
    title: 'deleting a chain that an element leads to',
    text: 'table ip t { map s { type ipv4_addr : verdict; elements = { 1.2.3.4 : jump a }; }; chain a { }; }\ndelete chain ip t a',
    errno: 'EBUSY',
    make(lab) {
      const [a, s] = [lab.chain(), lab.set({ dataWords: 1, verdicts: true })];
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)], [nft.verdictWord(nft.JUMP, a)]);
      lab.transaction.deleteChain(a);
    },
  },
  {
    title: 'deleting a set that a rule uses',
    text: 'table ip t { set s { type ipv4_addr; elements = { 1.2.3.4 }; }; chain b { ip saddr @s accept; }; }\ndelete set ip t s',
    errno: 'EBUSY',
    make(lab) {
      const [b, s] = [lab.chain(), lab.set()];
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)]);
      lab.rule(b, (rule) => rule.payload(nft.NETWORK, 12, 4, 0).lookup(s, 0).verdict(nft.ACCEPT));
      lab.transaction.deleteSet(s);
    },
  },
  {
    title: 'deleting a set with elements',
    text: 'table ip t { set s { type ipv4_addr; elements = { 1.2.3.4 }; }; }\ndelete set ip t s',
    errno: '',
    make(lab) {
      const s = lab.set();
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)]);
      lab.transaction.deleteSet(s);
    },
  },
  {
    title: 'an element that is there already',
    text: 'table ip t { set s { type ipv4_addr; elements = { 1.2.3.4 }; }; }\nadd element ip t s { 1.2.3.4 }',
    errno: '',
    make(lab) {
      const s = lab.set();
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)]);
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)]);
    },
  },
  {
    title: 'creating an element that is there already',
    text: 'table ip t { set s { type ipv4_addr; elements = { 1.2.3.4 }; }; }\ncreate element ip t s { 1.2.3.4 }',
    errno: 'EEXIST',
    make(lab) {
      const s = lab.set();
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)]);
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)], [], { flags: EXCLUSIVE });
    },
  },
  {
    title: 'an element that is there with another verdict',
    text: 'table ip t { map s { type ipv4_addr : verdict; elements = { 1.2.3.4 : accept }; }; }\nadd element ip t s { 1.2.3.4 : drop }',
    errno: 'EEXIST',
    make(lab) {
      const s = lab.set({ dataWords: 1, verdicts: true });
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)], [nft.ACCEPT]);
      lab.transaction.addElement(s, [ip(1, 2, 3, 4)], [nft.DROP]);
    },
  },
  {
    title: 'deleting an element that is not there',
    text: 'table ip t { set s { type ipv4_addr; }; }\ndelete element ip t s { 1.2.3.4 }',
    errno: 'ENOENT',
    make(lab) {
      lab.transaction.deleteElement(lab.set(), [ip(1, 2, 3, 4)]);
    },
  },
  {
    title: 'one element more than the size',
    text: 'table ip t { set s { type ipv4_addr; size 2; elements = { 1.2.3.4, 1.2.3.5, 1.2.3.6 }; }; }',
    errno: 'ENFILE',
    make(lab) {
      const s = lab.set({ size: 2 });
      for (const last of [4, 5, 6]) lab.transaction.addElement(s, [ip(1, 2, 3, last)]);
    },
  },
  {
    title: 'a set again with another type',
    text: 'table ip t { set s { type ipv4_addr; }; }\nadd set ip t s { type inet_service; }',
    errno: 'EEXIST',
    make(lab) {
      const s = lab.set();
      lab.transaction.addSet(lab.table, s, { ...PLAIN_SET, keyBytes: 2 });
    },
  },
  {
    title: 'deleting a rule that is not there',
    text: 'table ip t { chain a { accept; }; }\ndelete rule ip t a handle 77',
    errno: 'ENOENT',
    make(lab) {
      const a = lab.chain();
      lab.rule(a, (rule) => rule.verdict(nft.ACCEPT));
      lab.transaction.deleteRule(a, 77);
    },
  },
  {
    title: 'a jump to a chain that was deleted before',
    text: 'table ip t { chain a { }; chain b { }; }\ndelete chain ip t a\nadd rule ip t b jump a',
    errno: 'ENOENT',
    make(lab) {
      const [a, b] = [lab.chain(), lab.chain()];
      lab.transaction.deleteChain(a);
      lab.rule(b, (rule) => rule.verdict(nft.JUMP, a));
    },
  },
  {
    title: 'masquerade before routing',
    text: 'table ip t { chain a { type nat hook prerouting priority 0; masquerade; }; }',
    errno: 'EOPNOTSUPP',
    make(lab) {
      lab.rule(lab.chain(NAT_PREROUTING), (rule) => rule.masq(0));
    },
  },
  {
    title: 'dnat in a chain that a filter chain reaches',
    text: 'table ip t { chain a { dnat to 1.2.3.4; }; chain i { type filter hook prerouting priority 0; jump a; }; }',
    errno: 'EOPNOTSUPP',
    make(lab) {
      const [a, i] = [lab.chain(), lab.chain({ ...NAT_PREROUTING, type: 'filter' })];
      lab.rule(a, (rule) => rule.immediate(0, [ip(1, 2, 3, 4)]).nat(nft.DNAT, 2, 0, nft.NO_REGISTER));
      lab.rule(i, (rule) => rule.verdict(nft.JUMP, a));
    },
  },
  {
    title: 'dnat in a chain that nothing reaches',
    text: 'table ip t { chain a { dnat to 1.2.3.4; }; }',
    errno: '',
    make(lab) {
      lab.rule(lab.chain(), (rule) =>
        rule.immediate(0, [ip(1, 2, 3, 4)]).nat(nft.DNAT, 2, 0, nft.NO_REGISTER),
      );
    },
  },
  {
    title: 'reject after routing',
    text: 'table ip t { chain a { type filter hook postrouting priority 0; reject; }; }',
    errno: 'EOPNOTSUPP',
    make(lab) {
      lab.rule(lab.chain({ ...FILTER_INPUT, hook: 'postrouting' }), (rule) => rule.reject(0, 3));
    },
  },
  {
    title: 'a nat chain before connection tracking',
    text: 'table ip t { chain a { type nat hook prerouting priority -300; }; }',
    errno: 'EOPNOTSUPP',
    make(lab) {
      lab.chain({ ...NAT_PREROUTING, priority: -300 });
    },
  },
  {
    title: 'ranges that overlap',
    text: 'table ip t { set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }; }\nadd element ip t s { 10.1.0.0/16 }',
    errno: 'EEXIST',
    make(lab) {
      // nft itself refuses; the kernel would say ENOTEMPTY, which nft tells as "File exists".
      const s = lab.set({ interval: true });
      const range = (from: number, to: number): void => {
        lab.transaction.addElement(s, [from]);
        lab.transaction.addElement(s, [to], undefined, { flags: INTERVAL_END });
      };
      range(ip(10, 0, 0, 0), ip(11, 0, 0, 0));
      range(ip(10, 1, 0, 0), ip(10, 2, 0, 0));
    },
  },
];

const STRERROR: Readonly<Record<string, string>> = {
  ENOENT: 'No such file or directory',
  EEXIST: 'File exists',
  EBUSY: 'Device or resource busy',
  EMLINK: 'Too many links',
  EOPNOTSUPP: 'Operation not supported',
  ENFILE: 'Too many open files in system',
};

const live = spawnSync('unshare', ['-n', 'nft', 'list', 'ruleset']).status === 0 ? test : test.skip;

for (const { title, text, errno, make } of REFUSALS) {
  test(`${title}: ${errno === '' ? 'accepted' : errno}, and an error leaves nothing behind`, (t) => {
    const lab = new Lab();
    lab.commit();
    make(lab);
    const answer = lab.errno();
    t.is(answer === 'ENOTEMPTY' ? 'EEXIST' : answer, errno);
    t.is(lab.kernel.tables[0]!.chains, 0);
    t.is(lab.kernel.tables[0]!.sets.length, 0);
    t.deepEqual(lab.kernel.baseChains('input'), []);
  });

  live(`${title}: Linux says ${errno === '' ? 'yes' : errno}, too`, (t) => {
    const input = text.replaceAll('; };', '\n}\n').replaceAll('; }', '\n}\n').replaceAll('{ };', '{\n}\n');
    const run = spawnSync('unshare', ['-n', 'nft', '-f', '-'], { input, encoding: 'utf8' });
    if (errno === '') t.is(run.stderr, '', input);
    else
      t.true(
        run.stderr.includes(STRERROR[errno]!) || run.stderr.includes('conflicting intervals'),
        run.stderr,
      );
  });
}

test('nothing changes for packets until the commit; a failed transaction is as if it had not been', (t) => {
  const lab = new Lab();
  const input = lab.chain(FILTER_INPUT);
  const blocked = lab.set();
  lab.rule(input, (rule) => rule.payload(nft.NETWORK, 12, 4, 0).lookup(blocked, 0).verdict(nft.DROP));
  lab.transaction.addElement(blocked, [ip(10, 0, 0, 1)]);
  lab.commit();
  const walk = (last: number): number => {
    const skb = new Skb();
    skb.source[0] = ip(10, 0, 0, last) >>> 0;
    const evaluator = new Evaluator(
      lab.kernel,
      OPERATIONS,
      new Float64Array(nft.OPCODES + 4),
      new Streams('1').stream('n'),
    );
    return evaluator.run(input, skb, 0);
  };
  t.deepEqual([walk(1), walk(2)], [DROP, ACCEPT]);
  lab.transaction.deleteElement(blocked, [ip(10, 0, 0, 1)]);
  lab.transaction.addElement(blocked, [ip(10, 0, 0, 2)]);
  lab.transaction.prepare();
  t.deepEqual([walk(1), walk(2)], [DROP, ACCEPT], 'prepared');
  lab.transaction.commit();
  t.deepEqual([walk(1), walk(2)], [ACCEPT, DROP], 'committed');
  lab.transaction.deleteElement(blocked, [ip(10, 0, 0, 2)]);
  lab.transaction.addElement(blocked, [ip(10, 0, 0, 2)]);
  lab.transaction.addElement(blocked, [ip(10, 0, 0, 3)]);
  lab.transaction.flushChain(input);
  lab.transaction.deleteChain(lab.kernel.reserveChain());
  t.is(lab.errno(), 'ENOENT');
  t.deepEqual([walk(1), walk(2), walk(3)], [ACCEPT, DROP, ACCEPT], 'aborted');
  t.is(lab.kernel.sets[blocked]!.count, 1);
  t.is(lab.kernel.setUses[blocked], 1);
});

test('users of chains and sets are what a count over the whole ruleset says, whatever was done', (t) => {
  const step = fc.record({
    kind: fc.constantFrom('jump', 'map', 'flush', 'delete', 'element', 'unelement', 'commit', 'fail'),
    a: fc.nat(7),
    b: fc.nat(7),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
      const lab = new Lab();
      const chains = Array.from({ length: 8 }, () => lab.chain());
      const map = lab.set({ dataWords: 1, verdicts: true });
      lab.commit();
      const settle = (): void => {
        try {
          lab.transaction.prepare();
          lab.transaction.commit();
        } catch (error) {
          t.true(error instanceof NfTablesError);
          lab.transaction.clear();
        }
        const counted = [lab.kernel.chains.uses.slice(), lab.kernel.setUses.slice()];
        countUses(lab.kernel);
        t.deepEqual([lab.kernel.chains.uses, lab.kernel.setUses], counted);
        t.is(lab.kernel.tables[0]!.chains, chains.filter((chain) => lab.kernel.hasChain(chain)).length);
        const anonymous = lab.kernel.sets.filter((set) => set?.description.anonymous).length;
        t.is(lab.kernel.tables[0]!.sets.length, anonymous + 1);
      };
      for (const { kind, a, b } of steps) {
        const [from, to] = [chains[a]!, chains[b]!];
        if (kind === 'jump') lab.rule(from, (rule) => rule.verdict(nft.JUMP, to));
        else if (kind === 'flush') lab.transaction.flushChain(from);
        else if (kind === 'delete') lab.transaction.deleteChain(from);
        else if (kind === 'element') lab.transaction.addElement(map, [b], [nft.verdictWord(nft.GOTO, from)]);
        else if (kind === 'unelement') lab.transaction.deleteElement(map, [b]);
        else if (kind === 'map') {
          const anonymous = lab.set({ dataWords: 1, verdicts: true, anonymous: true, size: 2 });
          lab.transaction.addElement(anonymous, [0], [nft.verdictWord(nft.GOTO, to)]);
          lab.transaction.addElement(anonymous, [1], [nft.verdictWord(nft.GOTO, from)], { flags: CONTINUED });
          lab.rule(from, (rule) => rule.numgen(nft.NUMGEN_RANDOM, 2, 0, 0).lookup(anonymous, 0, nft.VERDICT));
        } else {
          if (kind === 'fail') lab.transaction.deleteRule(from, 1_000_000);
          settle();
        }
      }
      settle();
    }),
    { seed: 42, numRuns: 300 },
  );
});

test('rules that are written over and over are found unchanged, and what they leave behind is packed', (t) => {
  const lab = new Lab();
  const chains = Array.from({ length: 20 }, () => lab.chain({ ...FILTER_INPUT }));
  const policies = chains.map((_, i) => i);
  const write = (i: number, wanted: number): void => {
    lab.transaction.flushChain(chains[i]!);
    lab.rule(chains[i]!, (rule) => rule.immediate(0, [1000 * i]).metaSet(nft.META_MARK, 0));
    lab.rule(chains[i]!, (rule) => rule.immediate(0, [wanted]).metaSet(nft.META_MARK, 0).verdict(nft.ACCEPT));
    policies[i] = wanted;
  };
  for (let i = 0; i < 20; i++) write(i, i);
  lab.commit();
  for (let round = 0; round < 500; round++) {
    write((round * 7) % 20, round);
    lab.commit();
  }
  const walk = walker(lab.kernel);
  const skb = new Skb();
  for (let i = 0; i < 20; i++) {
    walk(chains[i]!, skb);
    t.is(skb.mark, policies[i]!);
  }
  t.true(lab.kernel.chains.arena.length < 2000);
});

test('an insert goes first, a delete by handle takes one rule out of the middle', (t) => {
  const lab = new Lab();
  const chain = lab.chain(FILTER_INPUT);
  const mark = (value: number): nft.ProgramBuilder =>
    lab.builder.reset().rule().immediate(0, [value]).metaSet(nft.META_MARK, 0).end();
  for (const value of [1, 2, 3]) lab.transaction.addRules(chain, mark(value));
  lab.transaction.insertRules(chain, mark(4));
  lab.commit();
  const held = (): [number, number][] => {
    const { arena, start, words } = lab.kernel.chains;
    const found: [number, number][] = [];
    nft.forEachRule(arena, start[chain]!, words[chain]!, (at, handle) =>
      found.push([handle, arena[at + 3]!]),
    );
    return found;
  };
  // The chain has handle 1.
  t.deepEqual(held(), [
    [5, 4],
    [2, 1],
    [3, 2],
    [4, 3],
  ]);
  lab.transaction.deleteRule(chain, 3);
  lab.transaction.addRules(chain, mark(6));
  const counts = lab.commit();
  t.deepEqual(held(), [
    [5, 4],
    [2, 1],
    [4, 3],
    [6, 6],
  ]);
  t.like(counts, { newRules: 1, ruleDeletions: 1, deletedRules: 1, chainsRewritten: 1, rulesRewritten: 4 });
});

test('sizes in the kernel are those of its structures', (t) => {
  const lab = new Lab();
  const chain = lab.chain();
  lab.rule(chain, (rule) =>
    rule
      .metaLoad(nft.META_L4PROTO, 0)
      .cmp(nft.EQ, 0, [6], 4)
      .numgen(nft.NUMGEN_RANDOM, 2, 0, 0)
      .lookup(lab.set({ size: 2, dataWords: 2, anonymous: true }), 0, 0)
      .nat(nft.DNAT, 2, 0, 1),
  );
  lab.commit();
  const { rules, chains, sets } = lab.kernel.kernelBytes();
  // meta 16, cmp-fast 24, numgen 24, lookup 56, nat 16; as a rule of 24 more, and in the blob with its header and end.
  t.is(rules, 24 + 136 + 8 + 8 + 136 + 40);
  t.is(chains, 128);
  // struct nft_set and nft_hash, and two buckets for two elements times four thirds.
  t.is(sets, 256 + 8 + 2 * 8);
});

test('looking sets up by name costs their places in the list: five walks for an anonymous map', (t) => {
  const lab = new Lab();
  const named = lab.set({ dataWords: 1, verdicts: true });
  const first = lab.commit();
  // By name: nothing is there; the name is new.
  t.is(first.setListSteps, 0);
  for (let n = 0; n < 10; n++) {
    const chain = lab.chain();
    const map = lab.set({ dataWords: 1, verdicts: true, anonymous: true, size: 1 });
    lab.transaction.addElement(map, [0], [nft.ACCEPT]);
    lab.rule(chain, (rule) => rule.numgen(nft.NUMGEN_RANDOM, 1, 0, 0).lookup(map, 0, nft.VERDICT));
    const before = lab.kernel.tables[0]!.sets.length;
    const { setListSteps } = lab.commit();
    // NEWSET: by name, numbers in use, name is new. NEWSETELEM and NEWRULE: by name, with the new one in the list.
    t.is(setListSteps, 3 * before + 2 * (before + 1));
  }
  lab.transaction.addElement(named, [7], [nft.ACCEPT]);
  t.is(lab.commit().setListSteps, 1);
});

test('validation enters a chain once for each hook, or once for each path under older kernels', (t) => {
  for (const [mode, validated, skipped] of [
    ['once', 2 * 3, 2],
    ['each-path', 2 * 4, 0],
  ] as const) {
    const kernel = new NfTables();
    const transaction = new Transaction(kernel, mode);
    const table = transaction.addTable('ip', 't');
    const chains = Array.from({ length: 4 }, () => kernel.reserveChain());
    const [pre, out, services, service] = chains as [number, number, number, number];
    transaction.addChain(table, pre, NAT_PREROUTING);
    transaction.addChain(table, out, { ...NAT_PREROUTING, hook: 'output' });
    transaction.addChain(table, services);
    transaction.addChain(table, service);
    const builder = new nft.ProgramBuilder();
    transaction.addRules(services, builder.reset().rule().verdict(nft.JUMP, service).end());
    transaction.addRules(services, builder.reset().rule().verdict(nft.JUMP, service).end());
    transaction.addRules(pre, builder.reset().rule().verdict(nft.JUMP, services).end());
    transaction.addRules(out, builder.reset().rule().verdict(nft.JUMP, services).end());
    const counts = transaction.prepare();
    t.is(counts.chainsValidated, validated);
    t.is(counts.chainsSkipped, skipped);
    t.is(counts.rulesRewritten, 4);
    t.is(counts.chainsPublished, 4);
    transaction.commit();
  }
});

test('base chains of one priority run with the newest first, others by priority', (t) => {
  const lab = new Lab();
  const [a, b, c] = [
    lab.chain(FILTER_INPUT),
    lab.chain(FILTER_INPUT),
    lab.chain({ ...FILTER_INPUT, priority: -5 }),
  ];
  lab.commit();
  t.deepEqual(lab.kernel.baseChains('input'), [c, b, a]);
  lab.transaction.deleteChain(b);
  lab.commit();
  t.deepEqual(lab.kernel.baseChains('input'), [c, a]);
});

live('Linux runs base chains of one priority with the newest first, too', (t) => {
  const input = `table ip t {
    chain a {\n type filter hook output priority 0\n meta mark set 0x1\n}
    chain b {\n type filter hook output priority 0\n meta mark set 0x2\n}
    chain c {\n type filter hook output priority 10\n meta mark 0x1 counter\n meta mark 0x2 counter\n}
  }\n`;
  const script = 'ip link set lo up; nft -f -; echo hello > /dev/udp/127.0.0.1/9; nft list chain ip t c';
  const { stdout } = spawnSync('unshare', ['-n', 'bash', '-c', script], { input, encoding: 'utf8' });
  t.regex(stdout, /mark 0x00000001 counter packets [1-9]/);
  t.regex(stdout, /mark 0x00000002 counter packets 0/);
});

// The walk.

interface Walked {
  readonly verdict: number;
  readonly expressions: number;
  readonly rules: number;
  readonly lookups: number;
  readonly evaluator: Evaluator;
}

function walker(kernel: NfTables): (chain: number, skb: Skb, nowNs?: number) => Walked {
  const counts = new Float64Array(nft.OPCODES + 4);
  const evaluator = new Evaluator(kernel, OPERATIONS, counts, new Streams('1').stream('numgen'));
  return (chain, skb, nowNs = 0) => {
    counts.fill(0);
    const verdict = evaluator.run(chain, skb, nowNs);
    const expressions = counts.subarray(0, nft.OPCODES).reduce((sum, n) => sum + n, 0);
    return {
      verdict,
      expressions,
      rules: counts[nft.OPCODES]!,
      lookups: counts[nft.OPCODES + 1]!,
      evaluator,
    };
  };
}

type Write = (rule: nft.ProgramBuilder) => void;

const newAnd =
  (then: Write): Write =>
  (rule) => {
    then(rule.ctLoad(nft.CT_STATE, 0).bitwise(0, 0, [CT_NEW], [0]).cmp(nft.NEQ, 0, [0], 4));
  };

/** ip daddr . meta l4proto . th dport vmap @set */
const dispatch =
  (set: number, source = false): Write =>
  (rule) =>
    rule
      .payload(nft.NETWORK, source ? 12 : 16, 4, 0)
      .metaLoad(nft.META_L4PROTO, 1)
      .payload(nft.TRANSPORT, 2, 2, 2)
      .lookup(set, 0, nft.VERDICT);

const CLUSTER_IP = ip(172, 30, 0, 41);
const ENDPOINT = ip(10, 180, 0, 3);

const local: Write = (rule) => rule.payload(nft.NETWORK, 12, 1, 0).cmp(nft.NEQ, 0, [10], 1);

const setMark: Write = (rule) =>
  rule.metaLoad(nft.META_MARK, 0).bitwise(0, 0, [~0x4000], [0x4000]).metaSet(nft.META_MARK, 0);

const clearMark: Write = (rule) =>
  rule.metaLoad(nft.META_MARK, 0).bitwise(0, 0, [-1], [0x4000]).metaSet(nft.META_MARK, 0);

const tcp: Write = (rule) => rule.metaLoad(nft.META_L4PROTO, 0).cmp(nft.EQ, 0, [6], 4);

/** The rules of kube-proxy for one ClusterIP service with one endpoint, 1.35 (L1) or 1.36 (L2), and its base chains. */
function kubeProxy(layout: 1 | 2): { kernel: NfTables; bases: number[] } {
  const lab = new Lab();
  const key = { keyBytes: 12, dataWords: 1, verdicts: true };
  const [clusterIps, serviceIps, noEndpoints, firewall] = [
    lab.set(),
    lab.set(key),
    lab.set(key),
    lab.set(key),
  ];
  const hairpin = lab.set({ keyBytes: 16 });
  const chain = (type: BaseChain['type'], hook: BaseChain['hook'], priority: number): number =>
    lab.chain({ type, hook, priority, policy: 'accept' });
  const preFilter = chain('filter', 'prerouting', -110);
  const preNat = chain('nat', 'prerouting', -100);
  const forward = chain('filter', 'forward', 0);
  const postNat = chain('nat', 'postrouting', 100);
  const [check, services, endpointsCheck, clusterIpsCheck] = [
    lab.chain(),
    lab.chain(),
    lab.chain(),
    lab.chain(),
  ];
  const [masquerading, mark, service, endpoint] = [lab.chain(), lab.chain(), lab.chain(), lab.chain()];

  lab.rule(
    preFilter,
    newAnd((rule) => rule.verdict(nft.JUMP, check)),
  );
  lab.rule(check, dispatch(firewall));
  lab.rule(preNat, (rule) => rule.verdict(nft.JUMP, services));
  lab.rule(
    forward,
    newAnd((rule) => rule.verdict(nft.JUMP, endpointsCheck)),
  );
  lab.rule(
    forward,
    newAnd((rule) => rule.verdict(nft.JUMP, clusterIpsCheck)),
  );
  lab.rule(endpointsCheck, dispatch(noEndpoints));
  lab.rule(clusterIpsCheck, (rule) => rule.payload(nft.NETWORK, 16, 4, 0).lookup(clusterIps, 0).reject(0, 3));
  lab.rule(clusterIpsCheck, (rule) =>
    rule
      .payload(nft.NETWORK, 16, 2, 0)
      .cmp(nft.EQ, 0, [172 | (30 << 8)], 2)
      .verdict(nft.DROP),
  );
  lab.rule(postNat, (rule) => rule.verdict(nft.JUMP, masquerading));
  if (layout === 1) {
    lab.rule(services, dispatch(serviceIps));
    lab.rule(service, (rule) => {
      local(rule.payload(nft.NETWORK, 16, 4, 0).cmp(nft.EQ, 0, [CLUSTER_IP], 4));
      rule.verdict(nft.JUMP, mark);
    });
    const map = lab.set({ dataWords: 1, verdicts: true, anonymous: true, size: 1 });
    lab.transaction.addElement(map, [0], [nft.verdictWord(nft.GOTO, endpoint)]);
    lab.rule(service, (rule) => rule.numgen(nft.NUMGEN_RANDOM, 1, 0, 0).lookup(map, 0, nft.VERDICT));
    lab.rule(endpoint, (rule) =>
      rule.payload(nft.NETWORK, 12, 4, 0).cmp(nft.EQ, 0, [ENDPOINT], 4).verdict(nft.JUMP, mark),
    );
    lab.rule(endpoint, (rule) => {
      tcp(rule);
      rule
        .immediate(0, [ENDPOINT])
        .immediate(4, [port(80)])
        .nat(nft.DNAT, 2, 0, 4, nft.NAT_PROTO_SPECIFIED);
    });
    lab.rule(mark, setMark);
    lab.rule(masquerading, (rule) =>
      rule.metaLoad(nft.META_MARK, 0).bitwise(0, 0, [0x4000], [0]).cmp(nft.EQ, 0, [0], 4).verdict(nft.RETURN),
    );
    lab.rule(masquerading, clearMark);
    lab.rule(masquerading, (rule) => rule.masq(nft.NAT_FULLY_RANDOM));
  } else {
    lab.rule(services, (rule) => {
      local(rule.payload(nft.NETWORK, 16, 4, 0).lookup(clusterIps, 0));
      setMark(rule);
    });
    lab.rule(services, dispatch(serviceIps));
    const map = lab.set({ dataWords: 2, anonymous: true, size: 1 });
    lab.transaction.addElement(map, [0], [ENDPOINT, port(80)]);
    lab.rule(service, (rule) => {
      tcp(rule);
      rule.numgen(nft.NUMGEN_RANDOM, 1, 0, 0).lookup(map, 0, 0).nat(nft.DNAT, 2, 0, 1);
    });
    lab.rule(masquerading, (rule) => {
      clearMark(rule.metaLoad(nft.META_MARK, 0).bitwise(0, 0, [0x4000], [0]).cmp(nft.NEQ, 0, [0], 4));
      rule.masq(nft.NAT_FULLY_RANDOM);
    });
    lab.rule(masquerading, (rule) =>
      rule
        .ctLoad(nft.CT_STATUS, 0)
        .bitwise(0, 0, [STATUS_DNAT], [0])
        .cmp(nft.NEQ, 0, [0], 4)
        .payload(nft.NETWORK, 12, 4, 0)
        .payload(nft.NETWORK, 16, 4, 1)
        .metaLoad(nft.META_L4PROTO, 2)
        .payload(nft.TRANSPORT, 2, 2, 3)
        .lookup(hairpin, 0)
        .masq(nft.NAT_FULLY_RANDOM),
    );
  }
  lab.transaction.addElement(clusterIps, [CLUSTER_IP]);
  lab.transaction.addElement(serviceIps, [CLUSTER_IP, 6, port(80)], [nft.verdictWord(nft.GOTO, service)]);
  lab.commit();
  return { kernel: lab.kernel, bases: [preFilter, preNat, forward, postNat] };
}

function toService(source: number): Skb {
  const skb = new Skb();
  skb.protocol = 6;
  skb.source[0] = source >>> 0;
  skb.destination[0] = CLUSTER_IP >>> 0;
  skb.sourcePort = 40000;
  skb.destinationPort = 80;
  return skb;
}

for (const [layout, source, wanted] of [
  [1, ip(10, 0, 0, 5), { expressions: 47, lookups: 5, rules: 15 }],
  [2, ip(10, 0, 0, 5), { expressions: 50, lookups: 7, rules: 14 }],
  [1, ip(192, 168, 9, 5), { expressions: 54, lookups: 5, rules: undefined }],
  [2, ip(192, 168, 9, 5), { expressions: 49, lookups: undefined, rules: undefined }],
] as const) {
  const from = source === ip(10, 0, 0, 5) ? 'a pod' : 'outside';
  test(`layout ${layout}, first packet of ${from}: ${wanted.expressions} expressions from hook to hook`, (t) => {
    const { kernel, bases } = kubeProxy(layout);
    const walk = walker(kernel);
    const skb = toService(source);
    let [expressions, rules, lookups] = [0, 0, 0];
    for (const base of bases) {
      const walked = walk(base, skb);
      expressions += walked.expressions;
      rules += walked.rules;
      lookups += walked.lookups;
      t.is(walked.verdict, ACCEPT);
      const { evaluator } = walked;
      if (base === bases[1]) {
        t.is(evaluator.nat, NAT_DESTINATION);
        t.is(evaluator.natAddress[0], ENDPOINT >>> 0);
        t.is(evaluator.natPortMin, 80);
        skb.destination[0] = evaluator.natAddress[0]!;
        skb.ctStatus |= STATUS_DNAT;
      }
      if (base === bases[3]) t.is(evaluator.nat === NAT_SOURCE && evaluator.masquerade, from === 'outside');
    }
    t.is(expressions, wanted.expressions);
    if (wanted.lookups !== undefined) t.is(lookups, wanted.lookups);
    if (wanted.rules !== undefined) t.is(rules, wanted.rules);
  });
}

test('every later packet pays nine expressions and no lookup', (t) => {
  const { kernel, bases } = kubeProxy(2);
  const walk = walker(kernel);
  const skb = toService(ip(10, 0, 0, 5));
  skb.ctState = CT_ESTABLISHED;
  const walked = [walk(bases[0]!, skb), walk(bases[2]!, skb)];
  t.is(walked[0]!.expressions + walked[1]!.expressions, 9);
  t.is(walked[0]!.lookups + walked[1]!.lookups, 0);
});

test('an untranslated packet to a ClusterIP is rejected on its way through', (t) => {
  const { kernel, bases } = kubeProxy(2);
  const { verdict, evaluator } = walker(kernel)(bases[2]!, toService(ip(10, 0, 0, 5)));
  t.is(verdict, DROP);
  t.true(evaluator.rejected);
  t.deepEqual([evaluator.rejectType, evaluator.rejectCode], [nft.REJECT_ICMP_UNREACH, 3]);
});

/** One rule with these tests: DROP if they match, ACCEPT otherwise. */
function verdictOf(write: Write): Walked {
  const lab = new Lab();
  const input = lab.chain({ ...FILTER_INPUT, policy: 'accept' });
  lab.rule(input, (rule) => {
    write(rule);
    rule.verdict(nft.DROP);
  });
  lab.commit();
  return walker(lab.kernel)(input, toService(ip(10, 0, 0, 5)));
}

const saddr = (op: number, word: number): number =>
  verdictOf((rule) => rule.payload(nft.NETWORK, 12, 4, 0).cmp(op, 0, [word], 4)).verdict;

const dport = (from: number, to: number, op: number): number =>
  verdictOf((rule) => rule.payload(nft.TRANSPORT, 2, 2, 0).range(op, 0, [port(from)], [port(to)], 2)).verdict;

test('comparisons are those of bytes in memory', (t) => {
  t.is(saddr(nft.LT, ip(10, 0, 1, 0)), DROP);
  t.is(saddr(nft.LT, ip(9, 255, 0, 0)), ACCEPT);
  t.is(saddr(nft.GTE, ip(10, 0, 0, 5)), DROP);
  t.is(saddr(nft.GT, ip(10, 0, 0, 5)), ACCEPT);
  t.is(saddr(nft.LTE, ip(10, 0, 0, 5)), DROP);
  t.is(saddr(nft.NEQ, ip(10, 0, 0, 5)), ACCEPT);
  t.is(dport(1, 80, nft.EQ), DROP);
  t.is(dport(81, 90, nft.EQ), ACCEPT);
  t.is(dport(81, 90, nft.NEQ), DROP);
  t.is(dport(10, 300, nft.EQ), DROP);
});

test('a prefix of a load and of a name is compared, the rest is not', (t) => {
  t.is(verdictOf((rule) => rule.payload(nft.NETWORK, 9, 1, 0).cmp(nft.EQ, 0, [6], 1)).verdict, DROP);
  t.is(verdictOf((rule) => rule.payload(nft.NETWORK, 12, 3, 0).cmp(nft.EQ, 0, [10], 3)).verdict, DROP);
  t.is(
    verdictOf((rule) =>
      rule.payload(nft.TRANSPORT, 0, 4, 0).cmp(nft.EQ, 0, [port(40000) | (port(80) << 16)], 4),
    ).verdict,
    DROP,
  );
});

test('goto does not come back, jump does, and the policy is the last word', (t) => {
  for (const [kind, wanted] of [
    [nft.JUMP, ACCEPT],
    [nft.GOTO, DROP],
  ] as const) {
    const lab = new Lab();
    const [input, other, empty] = [lab.chain({ ...FILTER_INPUT, policy: 'drop' }), lab.chain(), lab.chain()];
    lab.rule(input, (rule) => rule.verdict(kind, other));
    lab.rule(input, (rule) => rule.verdict(nft.ACCEPT));
    lab.rule(other, (rule) => rule.verdict(nft.JUMP, empty));
    lab.rule(other, (rule) => rule.verdict(nft.RETURN));
    lab.rule(other, (rule) => rule.verdict(nft.DROP));
    lab.commit();
    t.is(walker(lab.kernel)(input, new Skb()).verdict, wanted);
  }
});

test('numgen inc counts from its offset on and begins anew; random scales 32 bits', (t) => {
  const lab = new Lab();
  const input = lab.chain(FILTER_INPUT);
  lab.rule(input, (rule) => rule.numgen(nft.NUMGEN_INC, 3, 10, 0).metaSet(nft.META_MARK, 0));
  lab.rule(input, (rule) => rule.numgen(nft.NUMGEN_RANDOM, 1000, 0, 1).verdict(nft.ACCEPT));
  lab.commit();
  const skb = new Skb();
  const walk = walker(lab.kernel);
  const marks: number[] = [];
  const stream = new Streams('1').stream('numgen');
  for (let i = 0; i < 5; i++) {
    const { evaluator } = walk(input, skb);
    marks.push(skb.mark);
    t.is(evaluator.registers[1], Math.floor((stream.uint32() * 1000) / 4294967296));
  }
  t.deepEqual(marks, [10, 11, 12, 10, 11]);
});

test('affinity: a rule remembers clients, refreshes them, and gives up when the set is full', (t) => {
  const lab = new Lab();
  const input = lab.chain(FILTER_INPUT);
  const set = lab.set({ timeout: true, dynamic: true, timeoutMs: 1000, size: 2 });
  lab.rule(input, (rule) =>
    rule.payload(nft.NETWORK, 12, 4, 0).dynset(nft.DYNSET_UPDATE, set, 0).verdict(nft.DROP),
  );
  lab.commit();
  const walk = walker(lab.kernel);
  const at = (last: number, ms: number): number =>
    walk(input, toService(ip(10, 0, 0, last)), ms * 1e6).verdict;
  t.is(at(1, 0), DROP);
  t.is(at(2, 100), DROP);
  t.is(at(3, 200), ACCEPT, 'full: the rule breaks');
  t.is(at(1, 900), DROP, 'refreshed');
  t.is(at(3, 1150), ACCEPT, 'client 2 has expired, and is still counted');
  t.is(lab.kernel.collect(1150), 1);
  t.is(at(3, 1200), DROP);
  t.is(lab.kernel.collect(1900), 1);
  t.is(lab.kernel.sets[set]!.count, 1);
});

test('a dynamic set without a size holds 65535 clients once a rule adds to it', (t) => {
  const lab = new Lab();
  const input = lab.chain(FILTER_INPUT);
  const set = lab.set({ timeout: true, dynamic: true, timeoutMs: 1000 });
  lab.rule(input, (rule) =>
    rule.payload(nft.NETWORK, 12, 4, 0).dynset(nft.DYNSET_ADD, set, 0).verdict(nft.DROP),
  );
  lab.commit();
  const walk = walker(lab.kernel);
  const skb = toService(0);
  let dropped = 0;
  for (let client = 1; client <= 65540; client++) {
    skb.source[0] = client;
    if (walk(input, skb).verdict === DROP) dropped++;
  }
  t.is(dropped, 65535);
});

test('expressions read as nft --debug=netlink prints them', (t) => {
  const { words } = new nft.ProgramBuilder()
    .rule()
    .payload(nft.NETWORK, 16, 4, 0)
    .metaLoad(nft.META_L4PROTO, 1)
    .payload(nft.TRANSPORT, 2, 2, 2)
    .lookup(0, 0, nft.VERDICT)
    .bitwise(0, 0, [0xffffbfff], [0x4000])
    .cmp(nft.NEQ, 0, [0x7f], 1)
    .cmp(nft.NEQ, 0, [0, 0, 0, 0x01000000], 16)
    .metaSet(nft.META_MARK, 0)
    .fib(nft.FIB_DADDR, nft.FIB_RESULT_TYPE, 0)
    .numgen(nft.NUMGEN_RANDOM, 2, 0, 0)
    .numgen(nft.NUMGEN_INC, 2, 3, 0)
    .lookup(0, 0, 0)
    .lookup(0, 0, nft.NO_REGISTER, true)
    .nat(nft.DNAT, 2, 0, 1)
    .nat(nft.DNAT, 2, 0, 4, 2)
    .natRange(nft.SNAT, 2, { addressMin: 0, addressMax: 4 }, 8)
    .masq(16)
    .redir(6, 0, 4)
    .reject(0, 3)
    .dynset(nft.DYNSET_UPDATE, 0, 0)
    .dynset(nft.DYNSET_ADD, 0, 0, 5000)
    .range(nft.NEQ, 0, [0x100], [0x500], 2)
    .immediate(4, [0x5000])
    .verdict(nft.GOTO, 1)
    .verdict(nft.RETURN)
    .end();
  const texts: string[] = [];
  const names = { chain: () => 'f', set: () => 's' };
  nft.forEachExpression(words, 0, (at) => texts.push(expressionText(words, at, names)));
  t.deepEqual(texts, [
    'payload load 4b @ network header + 16 => reg 1',
    'meta load l4proto => reg 9',
    'payload load 2b @ transport header + 2 => reg 10',
    'lookup reg 1 set s dreg 0',
    'bitwise reg 1 = ( reg 1 & 0xffffbfff ) ^ 0x00004000',
    'cmp neq reg 1 0x0000007f',
    'cmp neq reg 1 0x00000000 0x00000000 0x00000000 0x01000000',
    'meta set mark with reg 1',
    'fib daddr type => reg 1',
    'numgen reg 1 = random mod 2',
    'numgen reg 1 = inc mod 2 offset 3',
    'lookup reg 1 set s dreg 1',
    'lookup reg 1 set s 0x1',
    'nat dnat ip addr_min reg 1 proto_min reg 9',
    'nat dnat ip addr_min reg 1 proto_min reg 2 flags 0x2',
    'nat snat ip addr_min reg 1 addr_max reg 2 flags 0x8',
    'masq flags 0x10',
    'redir proto_min reg 1 proto_max reg 2 flags 0x6',
    'reject type 0 code 3',
    'dynset update reg_key 1 set s',
    'dynset add reg_key 1 set s timeout 5000ms',
    'range neq reg 1 0x00000100 0x00000500',
    'immediate reg 2 0x00005000',
    'immediate reg 0 goto -> f',
    'immediate reg 0 return',
  ]);
});

/** Rules as kube-proxy writes them: expressions when all matches, and up to the first test that fails. */
const RULES: readonly { text: string; onMatch: number; onMiss?: number; miss?: (skb: Skb) => void }[] = [
  { text: 'ct state new jump x', onMatch: 4, onMiss: 3, miss: (skb) => (skb.ctState = CT_ESTABLISHED) },
  {
    text: 'ip daddr . meta l4proto . th dport vmap @m',
    onMatch: 4,
    onMiss: 4,
    miss: (skb) => (skb.protocol = 17),
  },
  { text: 'jump x', onMatch: 1 },
  { text: 'goto x', onMatch: 1 },
  { text: 'reject', onMatch: 1 },
  {
    text: 'ip daddr @s ip saddr != 10.0.0.0/8 mark set mark or 0x4000',
    onMatch: 7,
    onMiss: 2,
    miss: (skb) => (skb.destination[0] = 1),
  },
  {
    text: 'ip daddr @s ip saddr != 10.0.0.0/8 mark set mark or 0x4000',
    onMatch: 7,
    onMiss: 4,
    miss: (skb) => (skb.source[0] = 10),
  },
  {
    text: 'ip daddr @s ip saddr != 10.0.0.0/9 mark set mark or 0x4000',
    onMatch: 8,
    onMiss: 5,
    miss: (skb) => (skb.source[0] = 10),
  },
  {
    text: 'ip daddr @s meta l4proto . th dport vmap @p',
    onMatch: 5,
    onMiss: 2,
    miss: (skb) => (skb.destination[0] = 1),
  },
  { text: 'numgen random mod 2 vmap { 0 : goto x, 1 : goto y }', onMatch: 2 },
  {
    text: 'meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 80 }',
    onMatch: 5,
    onMiss: 2,
    miss: (skb) => (skb.protocol = 17),
  },
  { text: 'meta l4proto tcp dnat to 10.0.0.1:80', onMatch: 5, onMiss: 2, miss: (skb) => (skb.protocol = 17) },
  { text: 'ip saddr 192.168.9.5 jump x', onMatch: 3, onMiss: 2, miss: (skb) => (skb.source[0] = 1) },
  { text: 'ip saddr @clients goto x', onMatch: 3, onMiss: 2, miss: (skb) => (skb.source[0] = 1) },
  { text: 'update @dynamic { ip saddr }', onMatch: 2 },
  { text: 'mark and 0x4000 == 0 return', onMatch: 4, onMiss: 3, miss: (skb) => (skb.mark = 0x4000) },
  { text: 'mark set mark xor 0x4000', onMatch: 3 },
  { text: 'masquerade fully-random', onMatch: 1 },
  { text: 'mark and 0x4000 != 1 mark set mark xor 0x4000 masquerade fully-random', onMatch: 7 },
  {
    text: 'ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpins masquerade fully-random',
    onMatch: 9,
    onMiss: 3,
    miss: (skb) => (skb.ctStatus = 0),
  },
  {
    text: 'ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpins masquerade fully-random',
    onMatch: 9,
    onMiss: 8,
    miss: (skb) => (skb.source[0] = 1),
  },
  { text: 'ip daddr @s reject', onMatch: 3, onMiss: 2, miss: (skb) => (skb.destination[0] = 1) },
  { text: 'ip daddr { 172.30.0.0/16 } drop', onMatch: 3, onMiss: 2, miss: (skb) => (skb.destination[0] = 1) },
  { text: 'ip saddr != { 10.0.0.0/9 } drop', onMatch: 4, onMiss: 3, miss: (skb) => (skb.source[0] = 10) },
  { text: 'fib daddr type local goto x', onMatch: 3, onMiss: 2, miss: (skb) => (skb.isLocal = () => false) },
];

for (const { text, onMatch, onMiss, miss } of RULES) {
  test(`\`${text}\`: ${onMatch} expressions${onMiss === undefined ? '' : `, ${onMiss} on a miss`}`, (t) => {
    const rules = new NftRuleset();
    const nat = /dnat to|dnat ip addr/.test(text) ? 'type nat hook prerouting priority -100;' : '';
    const masquerade = text.includes('masquerade') ? 'type nat hook postrouting priority 100;' : '';
    const base = nat || masquerade || 'type filter hook input priority 0;';
    rules.apply(
      `table ip t {
        set s { type ipv4_addr; elements = { 172.30.0.41 }; }
        set clients { type ipv4_addr; elements = { 192.168.9.5 }; }
        set dynamic { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
        set hairpins {
          type ipv4_addr . ipv4_addr . inet_proto . inet_service
          elements = { 192.168.9.5 . 172.30.0.41 . tcp . 80 }
        }
        map m {
          type ipv4_addr . inet_proto . inet_service : verdict
          elements = { 172.30.0.41 . tcp . 80 : goto x }
        }
        map p { type inet_proto . inet_service : verdict; elements = { tcp . 80 : goto x }; }
        chain x { }
        chain y { }
        chain i { ${base} ${text}; }
      }`,
      'rules.nft',
    );
    const [chain] = [...rules.kernel.chains.bases.keys()];
    const skb = toService(ip(192, 168, 9, 5));
    skb.ctStatus = STATUS_DNAT;
    skb.isLocal = () => true;
    const walk = walker(rules.kernel);
    t.is(walk(chain!, skb).expressions, onMatch);
    if (miss === undefined) return;
    skb.mark = 0;
    miss(skb);
    t.is(walk(chain!, skb).expressions, onMiss!);
  });
}
