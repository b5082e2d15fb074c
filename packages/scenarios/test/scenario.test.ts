import test from 'ava';
import fc from 'fast-check';
import { formatDuration, parseDuration } from '../src/scenario/duration.ts';
import {
  ScenarioError,
  modeOptions,
  resolveScenario,
  scenarioDocument,
  scenarioFields,
} from '../src/scenario/scenario.ts';
import { applySettings } from '../src/scenario/set.ts';

test('durations are read in the forms people write and printed back', (t) => {
  t.is(parseDuration('90s'), 90e9);
  t.is(parseDuration('2m30s'), 150e9);
  t.is(parseDuration('1.5s'), 1.5e9);
  t.is(parseDuration('500ms'), 5e8);
  t.is(parseDuration('50us'), 50_000);
  t.is(parseDuration('50µs'), 50_000);
  for (const text of ['', '5', '-5s', '5 s', 's', '1e9s', '5sec', 'Infinitys'])
    t.is(parseDuration(text), undefined, text);
  t.notThrows(() =>
    fc.assert(fc.property(fc.nat(Number.MAX_SAFE_INTEGER), (ns) => parseDuration(formatDuration(ns)) === ns)),
  );
});

test('an empty scenario has every default, and survives being written and read', (t) => {
  const scenario = resolveScenario({});
  t.is(scenario.duration, 60e9);
  t.deepEqual(scenario.modes, ['iptables', 'nftables', 'ipvs', 'ebpf']);
  t.is(modeOptions(scenario, 'iptables')['backend'], 'nft');
  const document = scenarioDocument(scenario);
  t.is(document['duration'], '1m');
  t.deepEqual(resolveScenario(document), scenario);
});

test('settings reach any field, and the fields that exist are listed', (t) => {
  const document = applySettings({}, [
    'workload.zipfExponent=0',
    'iptables.backend=legacy',
    'network.delay=1ms',
    'seed=007',
  ]);
  const scenario = resolveScenario(document);
  t.is(scenario.workload.zipfExponent, 0);
  t.is(modeOptions(scenario, 'iptables')['backend'], 'legacy');
  t.is(scenario.network.delay, 1e6);
  t.is(scenario.seed, '007');
  const fields = scenarioFields().map((field) => `${field.path}=${field.default}`);
  t.true(scenarioFields().every(({ about }) => about !== ''));
  for (const wanted of [
    'iptables.backend=nft',
    'workload.connectionsPerSecond=4000',
    'churn.rolloutsPerMinute=6',
  ]) {
    t.true(fields.includes(wanted), wanted);
  }
});

test('options of text and of words take what is written, whether or not it could be a number or a truth', (t) => {
  for (const version of ['5.4', 'v5.4', '6.1', '6.10', '6.12.117'])
    t.is(ipvsOption('kernel', version), version);
  t.is(ipvsOption('release', '1.30'), '1.30');
  t.is(ipvsOption('interfaceNamePrefix', '12'), '12');
  t.is(ipvsOption('featureGate', 'true'), 'true');
  t.is(ipvsOption('strictARP', 'true'), true);
  t.is(ipvsOption('connTabBits', '20'), 20);
  t.throws(() => ipvsOption('kernel', '5'), { message: /wanted a version such as/ });
});

/** What `--set` makes of an option of IPVS mode. */
function ipvsOption(name: string, text: string): string | number | boolean | undefined {
  return modeOptions(resolveScenario(applySettings({}, [`ipvs.${name}=${text}`])), 'ipvs')[name];
}

test('wrong fields and values are named, with the way out', (t) => {
  const fails = (settings: string[], message: string | RegExp) => {
    const error = t.throws(() => resolveScenario(applySettings({}, settings)), { instanceOf: ScenarioError });
    if (typeof message === 'string') t.is(error?.message, message);
    else t.regex(error?.message ?? '', message);
  };
  fails(
    ['workload.zipfExponnt=1'],
    'workload.zipfExponnt: no such field; did you mean workload.zipfExponent?',
  );
  fails(['nonsense=1'], /^nonsense: no such field/);
  fails(['duration=5'], /^duration: .*expected string/);
  fails(['duration=soon'], /duration: wanted a duration such as 500ms, 30s or 2m/);
  fails(['node.cores=-1'], /node\.cores: Too small/);
  fails(['modes=iptables,xdp'], /modes\.1: .*"iptables"\|"nftables"\|"ipvs"\|"ebpf"/);
  fails(['iptables.backend=ebtables'], /iptables\.backend: .*"nft"\|"legacy"/);
  fails(['seed.deeper.still=1'], /seed/);
  t.throws(() => applySettings({}, ['novalue']), { message: /wanted path=value/ });
});

test('hostile paths set nothing but refused fields', (t) => {
  const document = applySettings({}, ['__proto__.polluted=1', 'constructor.prototype.polluted=1']);
  t.is(({} as Record<string, unknown>)['polluted'], undefined);
  t.throws(() => resolveScenario(document), { instanceOf: ScenarioError });
});
