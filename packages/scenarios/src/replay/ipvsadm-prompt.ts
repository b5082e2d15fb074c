import { IPV4, TCP, UDP, type AddressFamily } from '@vipsim/sim-core';
import { ipvsKernel } from '@vipsim/proxiers';
import { Unplayable, serviceSettings } from './ipvs-settings.ts';
import { wrong, type Recording } from './recording.ts';

type Director = InstanceType<typeof ipvsKernel.Director>;

/** What a command ends with: its exit code, and what it says if it is refused. */
export interface Answer {
  readonly code: number;
  readonly error: string;
}

const DONE: Answer = { code: 0, error: '' };
const SCHEDULERS: readonly string[] = ipvsKernel.SCHEDULER_NAMES;
const COMMANDS = ['-A', '-E', '-D', '-a', '-e', '-d'];
const VALUED = ['-t', '-u', '-f', '-s', '-b', '-M', '-r', '-w', '-x', '-y'];
const FORWARDS: Readonly<Record<string, ipvsKernel.Forward>> = {
  '-m': 'Masq',
  '-g': 'Route',
  '-i': 'Tunnel',
};
const DEFAULT_SCHEDULER = 'wlc';

/**
 * What somebody types: `ipvsadm -A -t 10.96.0.1:80 -s rr`. A director takes for granted that it is asked for what
 * can be done; this is where ipvsadm and the kernel refuse.
 * Source: ipvsadm.c and libipvs.c of ipvsadm 1.31; do_ip_vs_set_ctl, net/netfilter/ipvs/ip_vs_ctl.c.
 */
export class IpvsadmPrompt {
  /** Real servers that packets do not reach by translation, by the texts of their service and their place. */
  readonly forwards = new Map<string, ipvsKernel.Forward>();
  readonly #director: Director;
  readonly #recording: Recording;
  readonly #family: AddressFamily;

  constructor(director: Director, recording: Recording, family: AddressFamily) {
    this.#director = director;
    this.#recording = recording;
    this.#family = family;
  }

  /** @throws Unplayable for options that are not modelled. */
  type(text: string): Answer {
    const words = readWords(text);
    const refusal = this.#refusedByTool(words);
    if (refusal !== '') return { code: 2, error: refusal };
    const error = words.has('-r') ? this.#server(words) : this.#service(words);
    return error === '' ? DONE : { code: 255, error };
  }

  /** With how packets reach their servers. */
  listed(service: ipvsKernel.ListedService): ipvsKernel.ListedService {
    if (this.forwards.size === 0) return service;
    const servers = service.servers.map((server) => {
      const key = `${ipvsKernel.selectorText(service)} ${ipvsKernel.placeText(server)}`;
      const forward = this.forwards.get(key) ?? 'Masq';
      return { ...server, forward, tunnel: forward === 'Tunnel' ? 'ipip' : '' };
    });
    return { ...service, servers };
  }

  /** What ipvsadm itself refuses, before it asks the kernel. */
  #refusedByTool(words: ReadonlyMap<string, string>): string {
    const weight = words.get('-w');
    if (weight !== undefined && !/^\d+$/.test(weight)) return 'illegal weight specified';
    const mark = words.get('-f');
    if (mark !== undefined && !/^[1-9]\d*$/.test(mark)) return `invalid fwmark value \`${mark}' specified`;
    if (mark === undefined && !words.has('-p') && words.has('-A') && this.#virtual(words).port === 0)
      return 'Zero port specified for non-persistent service';
    if (words.has('-o') && words.has('-t')) return 'One-Packet Scheduling is only for UDP virtual services';
    return '';
  }

  #service(words: ReadonlyMap<string, string>): string {
    const director = this.#director;
    const known = this.#find(words);
    if (words.has('-A') && known >= 0) return 'Service already exists';
    if (!words.has('-A') && known < 0) return 'No such service';
    if (words.has('-D')) {
      director.removeService(known);
      return '';
    }
    const scheduler = words.get('-s') ?? DEFAULT_SCHEDULER;
    if (!SCHEDULERS.includes(scheduler)) return 'Scheduler or persistence engine not found';
    const flags = ['-b', '-p', '-M', '-o'].filter((option) => words.has(option));
    const text = flags.map((option) => `${option} ${words.get(option)!}`.trim()).join(' ');
    const settings = serviceSettings(
      { op: 'ipvsadm', t: 0, scheduler, flags: text },
      this.#family,
      this.#recording,
    );
    const mark = words.get('-f');
    if (known >= 0) director.editService(known, settings);
    else if (mark !== undefined) director.addMarkService(Number(mark), settings);
    else {
      const { protocol, address, port } = this.#virtual(words);
      director.addService(protocol, address, port, settings);
    }
    return '';
  }

  #server(words: ReadonlyMap<string, string>): string {
    const director = this.#director;
    const service = this.#find(words);
    if (service < 0) return 'Service not defined';
    const option = Object.keys(FORWARDS).find((one) => words.has(one)) ?? '-g';
    const virtualPort = director.services.port[service]!;
    const place = this.#place(words.get('-r')!, virtualPort);
    // Only translation can change the port.
    const port = option === '-m' || words.has('-d') ? place.port : virtualPort;
    const known = director.servers.find(service, place.address, port);
    if (words.has('-a') && known >= 0) return 'Destination already exists';
    if (!words.has('-a') && known < 0) return 'No such destination';
    if (words.has('-d')) {
      director.removeServer(known);
      return '';
    }
    const [weight, upper, lower] = [['-w', 1] as const, ['-x', 0] as const, ['-y', 0] as const].map(
      ([name, otherwise]) => Number(words.get(name) ?? otherwise),
    ) as [number, number, number];
    if (lower > upper) return 'Numerical result out of range';
    if (known >= 0) director.editServer(known, { weight, upper, lower });
    else director.addServer(service, place.address, port, weight, -1, { upper, lower });
    if (option !== '-m') {
      const selector = words.has('-f') ? `-f ${words.get('-f')!}` : this.#selector(words);
      this.forwards.set(`${selector} ${this.#family.hostPort(place.address, port)}`, FORWARDS[option]!);
    }
    return '';
  }

  #selector(words: ReadonlyMap<string, string>): string {
    const { protocol, address, port } = this.#virtual(words);
    return `${protocol === TCP ? '-t' : '-u'} ${this.#family.hostPort(address, port)}`;
  }

  #find(words: ReadonlyMap<string, string>): number {
    const { services } = this.#director;
    const mark = words.get('-f');
    if (mark !== undefined) return services.findMark(Number(mark));
    const { protocol, address, port } = this.#virtual(words);
    return services.find(protocol, address, port);
  }

  #virtual(words: ReadonlyMap<string, string>): { protocol: number; address: number; port: number } {
    const option = words.has('-t') ? '-t' : '-u';
    const text = words.get(option);
    if (text === undefined) throw new Unplayable();
    return { protocol: option === '-t' ? TCP : UDP, ...this.#place(text, 0) };
  }

  #place(text: string, otherwise: number): { address: number; port: number } {
    const [, host, port] = /^\[?([^[\]]*?)\]?(?::(\d+))?$/.exec(text) ?? [];
    const address = this.#family.parse(host ?? '');
    const number = port === undefined ? otherwise : Number(port);
    if (address === undefined || number > 65_535) {
      const title = this.#family === IPV4 ? 'IPv4' : 'IPv6';
      throw wrong(this.#recording.file, 'steps', `cmd: ${text} is no ${title} address with a port`);
    }
    return { address, port: number };
  }
}

/** Options by their letters, each with its value. */
function readWords(text: string): ReadonlyMap<string, string> {
  const [tool, ...words] = text.trim().split(/\s+/);
  const options = new Map<string, string>();
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const isCommand = COMMANDS.includes(word);
    if (
      !isCommand &&
      !VALUED.includes(word) &&
      !['-p', '-o'].includes(word) &&
      !Object.hasOwn(FORWARDS, word)
    )
      throw new Unplayable();
    if (isCommand !== (i === 0) || options.has(word)) throw new Unplayable();
    const next = words[i + 1];
    const takes = VALUED.includes(word) || (word === '-p' && next !== undefined && !next.startsWith('-'));
    if (takes && next === undefined) throw new Unplayable();
    options.set(word, takes ? next! : '');
    if (takes) i++;
  }
  const isServer = ['-a', '-e', '-d'].includes(words[0] ?? '');
  if (tool !== 'ipvsadm' || options.size === 0 || isServer !== options.has('-r')) throw new Unplayable();
  return options;
}
