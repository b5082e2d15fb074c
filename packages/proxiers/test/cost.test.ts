import test from 'ava';
import { PROFILES, MODES, PriceList, operationIndex, priceAt } from '../src/index.ts';

test('every shipped profile prices every operation of every mode, each price with its source, and nothing else', (t) => {
  const wanted = new Set(['stack.packet', ...MODES.flatMap((mode) => mode.operations)]);
  for (const profile of PROFILES) {
    t.deepEqual(
      Object.keys(profile.prices).filter((name) => !wanted.has(name)),
      [],
    );
    for (const mode of MODES) t.notThrows(() => new PriceList(profile, mode.operations));
    for (const [name, price] of Object.entries(profile.prices)) {
      t.true(['measured', 'published', 'estimate'].includes(price.kind), name);
      t.true(price.source.length > 10, name);
      const points = typeof price.ns === 'number' ? [[0, price.ns] as const] : price.ns;
      points.forEach(([bytes, ns], i) => t.true(ns >= 0 && (i === 0 || bytes > points[i - 1]![0]), name));
    }
  }
});

test('a price between two points follows the logarithm of the working set, and is constant beyond them', (t) => {
  const price = {
    ns: [
      [1024, 10],
      [4096, 30],
    ],
    kind: 'estimate',
    source: '',
  } as const;
  t.deepEqual(
    [0, 1024, 2048, 4096, 1e12].map((bytes) => Math.round(priceAt(price, bytes) * 1e9) / 1e9),
    [10, 10, 20, 30, 30],
  );
  t.is(priceAt({ ...price, ns: 7 }, 1e6), 7);
});

test('a price list sums counts times prices and names what it cannot price', (t) => {
  const prices = {
    a: { ns: 1.25, kind: 'estimate', source: '' },
    b: {
      ns: [
        [1, 2],
        [2, 4],
      ],
      kind: 'estimate',
      source: '',
    },
  } as const;
  const profile = { ...PROFILES[0]!, name: 'test', prices };
  const list = new PriceList(profile, ['a', 'b']);
  t.is(list.total(Float64Array.of(4, 3)), 11);
  list.refresh(Float64Array.of(0, 2));
  t.is(list.total(Float64Array.of(4, 3)), 17);
  t.throws(() => new PriceList(profile, ['a', 'c', 'd']), { message: 'profile test has no price for: c, d' });
  t.deepEqual(operationIndex(['x', 'y']), { x: 0, y: 1 });
});
