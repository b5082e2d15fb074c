import test from 'ava';
import fc from 'fast-check';
import { IPV4, Ipv6Family, formatIpv6, parseIpv6, type Ipv6 } from '../src/index.ts';

const word = fc.oneof(fc.constant(0), fc.constant(1), fc.nat({ max: 0xffff }), fc.nat({ max: 0xffffffff }));
const address = fc.tuple(word, word, word, word) as fc.Arbitrary<Ipv6>;

/** As URLs print a host: RFC 5952, too, but always in hexadecimal groups. */
function urlText(text: string): string {
  return new URL(`http://[${text}]/`).hostname.slice(1, -1);
}

function bits(words: readonly number[]): string {
  return words.map((one) => one.toString(2).padStart(32, '0')).join('');
}

function shared(one: string, other: string): number {
  let at = 0;
  while (at < one.length && one[at] === other[at]) at++;
  return at;
}

test('an IPv6 address has the one text that RFC 5952 gives it', (t) => {
  const texts = [
    // Sections 1, 2.2, 4.1, 4.2.2, 4.2.3, 4.3 and 5 of the RFC.
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8::1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:DB8:0:0:AAAA::1', '2001:db8::aaaa:0:0:1'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['::ffff:c000:201', '::ffff:192.0.2.1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['fe80:0:0:0:0:0:0:0', 'fe80::'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1::2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
  ] as const;
  for (const [text, canonical] of texts) t.is(formatIpv6(parseIpv6(text)!), canonical, text);
  for (const text of [
    '',
    ':',
    ':::',
    '1',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1::2:3:4:5:6:7:8',
    '1::2::3',
    '12345::',
    'g::',
    ':1:2:3:4:5:6:7:8',
    '1:2:3:4:5:6:7:8:',
    'fe80::1%eth0',
    '[::1]',
    ' ::1',
    '::1/128',
    '10.0.0.1',
    '::10.0.0',
    '::10.0.0.256',
    '1.2.3.4::',
  ]) {
    t.is(parseIpv6(text), undefined, text);
  }
});

test('texts and addresses go back and forth, and URLs print the same text', (t) => {
  fc.assert(
    fc.property(address, (words) => {
      const text = formatIpv6(words);
      const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
      t.deepEqual(parseIpv6(text), [...words]);
      if (!mapped) t.is(text, urlText(text));
      const groups = words.flatMap((one) => [one >>> 16, one & 0xffff]).map((one) => one.toString(16));
      t.deepEqual(parseIpv6(groups.join(':').toUpperCase()), [...words]);
    }),
    { seed: 42, numRuns: 2000 },
  );
});

test('a family of IPv6 numbers each address once, and 0 is the unspecified one', (t) => {
  fc.assert(
    fc.property(fc.array(address, { maxLength: 400 }), (list) => {
      const family = new Ipv6Family();
      const numbers = list.map((words) => family.book.intern(words));
      const texts = new Set(['::', ...list.map(formatIpv6)]);
      t.is(family.book.count, texts.size);
      t.is(new Set([0, ...numbers]).size, texts.size);
      for (const [i, number] of numbers.entries()) t.deepEqual([...family.book.words(number)], [...list[i]!]);
    }),
    { seed: 42, numRuns: 200 },
  );
  const family = new Ipv6Family();
  t.is(family.parse('::'), 0);
  t.is(family.parse('FD00::0:1'), family.parse('fd00::1'));
  t.is(family.parse('::ffff:10.0.0.1'), undefined);
  t.throws(() => family.text(99), { instanceOf: RangeError });
});

test('networks of both families: bits behind the prefix are cleared, and what is inside is told', (t) => {
  const family = new Ipv6Family();
  const cidr = (text: string): string => family.cidrText(family.parseCidr(text)!);
  t.is(cidr('fd00:10:244:1::5/56'), 'fd00:10:244::/56');
  t.is(cidr('2001:db8::/33'), '2001:db8::/33');
  t.is(cidr('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127'), 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127');
  t.is(cidr('fd00::1/0'), '::/0');
  for (const text of ['fd00::/129', 'fd00::', 'fd00::/', 'fd00::/x', '10.0.0.0/8', '::ffff:10.0.0.0/104']) {
    t.is(family.parseCidr(text), undefined, text);
  }
  const network = family.parseCidr('fd00:10:244::/56')!;
  t.true(family.contains(network, family.parse('fd00:10:244:ff::1')!));
  t.false(family.contains(network, family.parse('fd00:10:244:100::1')!));
  t.is(family.text(family.nth(network, 258)), 'fd00:10:244::102');
  t.is(family.cidrText(family.subnet(network, 255)), 'fd00:10:244:ff::/64');
  t.is(family.text(family.nth(family.parseCidr('fd00::ffff:ffff:0/112')!, 65_537)), 'fd00::1:0:0:1');
  t.is(family.size(family.parseCidr('fd00:10:96::/108')!), 1_048_576);
  t.is(family.size(network), 4_294_967_296);
  t.is(family.hostPort(family.parse('fd00::1')!, 80), '[fd00::1]:80');
  t.is(IPV4.hostPort(IPV4.parse('10.0.0.1')!, 80), '10.0.0.1:80');
  for (const each of [IPV4, family]) {
    for (let prefix = 0; prefix <= each.bits; prefix++) t.is(each.prefixOf(each.mask(prefix)), prefix);
    t.is(each.mask(0), 0);
    t.is(each.mask(each.bits), 0xffffffff);
  }
});

test('prefix lengths in common are those of the bits, in both families', (t) => {
  fc.assert(
    fc.property(address, address, fc.nat({ max: 128 }), (one, other, prefix) => {
      const family = new Ipv6Family();
      const [a, b] = [family.book.intern(one), family.book.intern(other)];
      t.is(family.commonBits(a, b), shared(bits(one), bits(other)));
      const network = family.network(a, prefix);
      t.is(family.contains(network, b), shared(bits(one), bits(other)) >= prefix);
      t.is(bits(family.book.words(network.address)), bits(one).slice(0, prefix).padEnd(128, '0'));
      t.is(IPV4.commonBits(one[0], other[0]), Math.min(32, shared(bits([one[0]]), bits([other[0]]))));
    }),
    { seed: 42, numRuns: 500 },
  );
});
