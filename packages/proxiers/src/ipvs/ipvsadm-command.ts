import { InputError } from '../kubernetes/input-error.ts';

/** The short name of each option, and whether a value follows. */
const OPTIONS: Readonly<Record<string, 'none' | 'one' | 'optional'>> = {
  '-A': 'none',
  '-a': 'none',
  '-t': 'one',
  '-u': 'one',
  '--sctp-service': 'one',
  '-f': 'one',
  '-6': 'none',
  '-s': 'one',
  '-p': 'optional',
  '-M': 'one',
  '--pe': 'one',
  '-o': 'none',
  '-b': 'one',
  '-r': 'one',
  '-m': 'none',
  '-i': 'none',
  '-g': 'none',
  '-w': 'one',
  '-x': 'one',
  '-y': 'one',
  '--tun-type': 'one',
  '--tun-port': 'one',
  '--tun-nocsum': 'none',
  '--tun-csum': 'none',
  '--tun-remcsum': 'none',
};
const LONG: Readonly<Record<string, string>> = {
  '--add-service': '-A',
  '--add-server': '-a',
  '--tcp-service': '-t',
  '--udp-service': '-u',
  '--fwmark-service': '-f',
  '--ipv6': '-6',
  '--scheduler': '-s',
  '--persistent': '-p',
  '--netmask': '-M',
  '--ops': '-o',
  '--sched-flags': '-b',
  '--real-server': '-r',
  '--masquerading': '-m',
  '--ipip': '-i',
  '--gatewaying': '-g',
  '--weight': '-w',
  '--u-threshold': '-x',
  '--l-threshold': '-y',
};

/** One line of an `ipvsadm -Sn` text: its options by their short names, each with its value. */
export class IpvsadmCommand {
  readonly #values = new Map<string, string>();
  readonly #file: string;
  readonly #line: number;

  constructor(words: readonly string[], file: string, line: number) {
    this.#file = file;
    this.#line = line;
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!;
      const option = LONG[word] ?? word;
      const kind = Object.hasOwn(OPTIONS, option) ? OPTIONS[option] : undefined;
      if (kind === undefined) throw this.error(word, 'not an option that ipvsadm -Sn writes');
      if (this.#values.has(option)) throw this.error(word, 'given twice');
      const next = words[i + 1];
      const follows = next !== undefined && !next.startsWith('-');
      if (kind === 'one' && next === undefined) throw this.error(word, 'its value is missing');
      const takes = kind === 'one' || (kind === 'optional' && follows);
      this.#values.set(option, takes ? next! : '');
      if (takes) i++;
    }
  }

  has(option: string): boolean {
    return this.#values.has(option);
  }

  text(option: string): string | undefined {
    return this.#values.get(option);
  }

  number(option: string, otherwise: number, min: number, max: number): number {
    const text = this.#values.get(option);
    if (text === undefined) return otherwise;
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw this.error(`${option} ${text}`, `wanted a whole number from ${min} to ${max}`);
  }

  error(token: string, problem: string): InputError {
    const [said, hint = ''] = problem.split('; ', 2);
    return new InputError({
      file: this.#file,
      document: 0,
      line: this.#line,
      subject: '',
      field: token,
      problem: said!,
      hint,
    });
  }
}
