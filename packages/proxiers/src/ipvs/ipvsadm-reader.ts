import { SCTP, TCP, UDP, netmask, parseIpv4, parseIpv6 } from '@vipsim/sim-core';
import { IpvsadmCommand } from './ipvsadm-command.ts';
import {
  NO_TRAFFIC,
  placeText,
  type Forward,
  type ListedServer,
  type ListedService,
  type Place,
  type Selected,
} from './listing.ts';
import { selectorText } from './ipvsadm.ts';
import { SCHEDULER_NAMES } from './schedulers/create.ts';

const SCHEDULERS: readonly string[] = SCHEDULER_NAMES;
/** Flags that a scheduler has names for, in the order in which ipvsadm prints them; others are flag-1 to flag-3. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  sh: ['sh-fallback', 'sh-port', 'flag-3'],
  mh: ['mh-fallback', 'mh-port', 'flag-3'],
};
const PLAIN_FLAGS = ['flag-1', 'flag-2', 'flag-3'];
/** What `-p` without a number means, and what a service without `-s` gets. */
const PERSISTENCE_S = 360;
const DEFAULT_SCHEDULER = 'wlc';
const WEIGHT_MAX = 2_147_483_647;

const SERVICE_OPTIONS = ['-t', '-u', '--sctp-service', '-f'];
const FORWARDS: Readonly<Record<string, Forward>> = { '-m': 'Masq', '-i': 'Tunnel', '-g': 'Route' };
const TUNNEL_OPTIONS = ['--tun-nocsum', '--tun-csum', '--tun-remcsum'];

interface Draft {
  readonly service: Omit<ListedService, 'servers'>;
  readonly servers: ListedServer[];
  /** Names of its servers. */
  readonly taken: Set<string>;
}

/**
 * Virtual and real servers of an `ipvsadm -Sn` text, in its order: what `ipvsadm -R` would add. Blank lines and
 * lines that begin with # are skipped.
 * Throws InputError that names line and token for what ipvsadm or the kernel would refuse.
 */
export function readIpvsadmSave(text: string, file: string): ListedService[] {
  const services = new Map<string, Draft>();
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/);
    if (words[0] === '' || words[0]!.startsWith('#')) continue;
    const command = new IpvsadmCommand(words, file, index + 1);
    if (command.has('-A') === command.has('-a')) {
      throw command.error(
        words[0]!,
        'a line adds one service (-A) or one server (-a); save the table with ipvsadm -Sn',
      );
    }
    if (command.has('-A')) addService(services, command);
    else addServer(services, command);
  }
  return Array.from(services.values(), ({ service, servers }) => ({ ...service, servers }));
}

function addService(services: Map<string, Draft>, command: IpvsadmCommand): void {
  const selected = readSelector(command);
  const isIpv4 = selected.address.length === 1;
  const persistentS = readPersistence(command);
  const scheduler = command.text('-s') ?? DEFAULT_SCHEDULER;
  if (!SCHEDULERS.includes(scheduler)) {
    throw command.error(`-s ${scheduler}`, `no such scheduler; Linux has ${SCHEDULERS.join(', ')}`);
  }
  if (selected.mark === 0 && selected.port === 0 && persistentS === 0) {
    throw command.error(':0', 'port 0 stands for all ports and needs persistence; add -p');
  }
  if (command.has('-o') && selected.protocol !== UDP && selected.mark === 0) {
    throw command.error('-o', 'one-packet scheduling is only for UDP');
  }
  const service = {
    ...selected,
    scheduler,
    flags: readFlags(command, scheduler),
    persistentS,
    clientPrefix: readMask(command, isIpv4, persistentS),
    engine: command.text('--pe') ?? '',
    onePacket: command.has('-o'),
    traffic: NO_TRAFFIC,
  };
  const key = selectorText(service);
  if (services.has(key)) throw command.error(key, 'the service exists already, from a line before');
  services.set(key, { service, servers: [], taken: new Set() });
}

function addServer(services: Map<string, Draft>, command: IpvsadmCommand): void {
  const selected = readSelector(command);
  const key = selectorText(selected);
  const draft = services.get(key);
  if (draft === undefined) throw command.error(key, 'no such service; an -A line must come before');
  const text = command.text('-r');
  if (text === undefined) throw command.error('-a', 'a server needs -r ADDRESS:PORT');
  const forwards = Object.keys(FORWARDS).filter((option) => command.has(option));
  if (forwards.length > 1) throw command.error(forwards.join(' '), 'one way of forwarding, please');
  const forward = FORWARDS[forwards[0] ?? '-g']!;
  const named = readPlace(command, '-r', text, selected.port);
  // Only a translated packet can have another port.
  const place = forward === 'Masq' ? named : { address: named.address, port: selected.port };
  const upperThreshold = command.number('-x', 0, 0, WEIGHT_MAX);
  const lowerThreshold = command.number('-y', 0, 0, WEIGHT_MAX);
  if (upperThreshold !== 0 && lowerThreshold > upperThreshold) {
    throw command.error(`-y ${lowerThreshold}`, `above the upper threshold ${upperThreshold}`);
  }
  const name = placeText(place);
  if (draft.taken.has(name)) throw command.error(`-r ${text}`, 'the service has this server already');
  draft.taken.add(name);
  draft.servers.push({
    ...place,
    forward,
    tunnel: readTunnel(command, forward),
    weight: command.number('-w', 1, 0, WEIGHT_MAX),
    active: 0,
    inactive: 0,
    persistent: 0,
    upperThreshold,
    lowerThreshold,
    traffic: NO_TRAFFIC,
  });
}

function readSelector(command: IpvsadmCommand): Selected {
  const given = SERVICE_OPTIONS.filter((option) => command.has(option));
  const option = given[0];
  if (option === undefined || given.length > 1) {
    throw command.error(given.join(' ') || '-A', `wanted one of ${SERVICE_OPTIONS.join(', ')}`);
  }
  const text = command.text(option)!;
  if (option === '-f') {
    const mark = command.number('-f', 0, 1, 4_294_967_295);
    return { protocol: 0, mark, address: command.has('-6') ? [0, 0, 0, 0] : [0], port: 0 };
  }
  const protocol = option === '-t' ? TCP : option === '-u' ? UDP : SCTP;
  return { protocol, mark: 0, ...readPlace(command, option, text, 0) };
}

function readPlace(command: IpvsadmCommand, option: string, text: string, otherwise: number): Place {
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text);
  const ipv6 = match?.[1] === undefined ? undefined : parseIpv6(match[1]);
  const ipv4 = match?.[2] === undefined ? undefined : parseIpv4(match[2]);
  const port = match?.[3] === undefined ? otherwise : Number(match[3]);
  const address = ipv6 ?? (ipv4 === undefined ? undefined : [ipv4]);
  if (address === undefined || port > 65535) {
    throw command.error(
      `${option} ${text}`,
      'wanted ADDRESS:PORT in numbers, IPv6 in brackets; ipvsadm -Sn saves numbers, -S names',
    );
  }
  return { address, port };
}

function readPersistence(command: IpvsadmCommand): number {
  if (!command.has('-p')) return 0;
  return command.text('-p') === '' ? PERSISTENCE_S : command.number('-p', 0, 1, 31 * 24 * 3600);
}

function readMask(command: IpvsadmCommand, isIpv4: boolean, persistentS: number): number {
  const full = isIpv4 ? 32 : 128;
  const text = command.text('-M');
  if (text === undefined) return full;
  if (persistentS === 0) throw command.error(`-M ${text}`, 'a mask is part of persistence: add -p');
  if (!isIpv4) return command.number('-M', full, 1, 128);
  const mask = parseIpv4(text);
  for (let prefix = 0; prefix <= 32; prefix++) if (netmask(prefix) === mask) return prefix;
  throw command.error(`-M ${text}`, 'wanted a netmask such as 255.255.255.0');
}

function readFlags(command: IpvsadmCommand, scheduler: string): string {
  const text = command.text('-b');
  if (text === undefined) return '';
  const names = FLAGS[scheduler] ?? PLAIN_FLAGS;
  const set = new Set<number>();
  for (const flag of text.split(',')) {
    const bit = names.includes(flag) ? names.indexOf(flag) : PLAIN_FLAGS.indexOf(flag);
    if (bit < 0) throw command.error(`-b ${flag}`, `${scheduler} has ${names.join(', ')}`);
    set.add(bit);
  }
  return names.filter((_, bit) => set.has(bit)).join(',');
}

function readTunnel(command: IpvsadmCommand, forward: Forward): string {
  const type = command.text('--tun-type');
  if (forward !== 'Tunnel') {
    if (type !== undefined) throw command.error(`--tun-type ${type}`, 'only with -i');
    return '';
  }
  if (type !== undefined && !['ipip', 'gue', 'gre'].includes(type)) {
    throw command.error(`--tun-type ${type}`, 'wanted ipip, gue or gre');
  }
  const port = command.text('--tun-port');
  const checksum = TUNNEL_OPTIONS.filter((option) => command.has(option));
  return [type ?? 'ipip', ...(port === undefined ? [] : ['--tun-port', port]), ...checksum].join(' ');
}
