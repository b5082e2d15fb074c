import { utf8 } from './utf8.ts';

/**
 * A capture file as Wireshark reads it: one section, its interfaces, its packets with 64-bit nanoseconds.
 * Source: draft-ietf-opsawg-pcapng (block types, options, padding) and the LINKTYPE registry of tcpdump.org.
 * Not written: name resolution, interface statistics, decryption secrets, custom blocks.
 */
export interface Capture {
  /** The program that made it: `vipsim 1.2.3`. */
  readonly application: string;
  readonly comment?: string;
  readonly interfaces: readonly CaptureInterface[];
  /** In the order of their times, which some readers rely on. */
  readonly packets: Iterable<CapturedPacket>;
}

export interface CaptureInterface {
  readonly name: string;
  readonly description?: string;
}

export interface CapturedPacket {
  /** Index into `interfaces`. */
  readonly interface: number;
  /** Whole nanoseconds from the start of the simulation, shown as since 1 January 1970. */
  readonly atNs: number;
  readonly inbound: boolean;
  /** What is kept of the packet, from its IP header on. */
  readonly bytes: Uint8Array;
  /** How long it was, at least what is kept. */
  readonly originalBytes: number;
  readonly comment?: string;
}

/** The packet begins with its IPv4 or IPv6 header. */
const LINKTYPE_RAW = 101;

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;

const OPT_COMMENT = 1;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;

const OPTION_BYTES_MAX = 65_535;
const CHUNK = 65_536;

/**
 * The file in chunks of about 64 KiB.
 * @throws RangeError for a packet of an interface that is not declared, or longer kept than it was.
 */
export function* pcapng(capture: Capture): Generator<Uint8Array> {
  const out = new BlockWriter();
  writeSectionHeader(out, capture);
  for (const link of capture.interfaces) writeInterface(out, link);
  for (const packet of capture.packets) {
    if (capture.interfaces[packet.interface] === undefined)
      throw new RangeError(`a packet of interface ${packet.interface} of ${capture.interfaces.length}`);
    if (packet.originalBytes < packet.bytes.length)
      throw new RangeError(`${packet.bytes.length} bytes kept of a packet of ${packet.originalBytes}`);
    writePacket(out, packet);
    if (out.length >= CHUNK) yield out.take();
  }
  yield out.take();
}

function writeSectionHeader(out: BlockWriter, capture: Capture): void {
  out.begin(SECTION_HEADER);
  out.word(BYTE_ORDER);
  // Version 1.0; of a length that nobody has counted.
  out.half(1);
  out.half(0);
  out.word(0xffffffff);
  out.word(0xffffffff);
  if (capture.comment !== undefined) out.textOption(OPT_COMMENT, capture.comment);
  out.textOption(SHB_USERAPPL, capture.application);
  out.endOptions();
  out.end();
}

function writeInterface(out: BlockWriter, link: CaptureInterface): void {
  out.begin(INTERFACE_DESCRIPTION);
  out.half(LINKTYPE_RAW);
  out.half(0);
  // No limit on what is kept of a packet.
  out.word(0);
  out.textOption(IF_NAME, link.name);
  if (link.description !== undefined) out.textOption(IF_DESCRIPTION, link.description);
  // Times count 10^-9 seconds.
  out.option(IF_TSRESOL, Uint8Array.of(9));
  out.endOptions();
  out.end();
}

function writePacket(out: BlockWriter, packet: CapturedPacket): void {
  out.begin(ENHANCED_PACKET);
  out.word(packet.interface);
  out.word(Math.floor(packet.atNs / 4294967296));
  out.word(packet.atNs % 4294967296);
  out.word(packet.bytes.length);
  out.word(packet.originalBytes);
  out.bytes(packet.bytes);
  if (packet.comment !== undefined) out.textOption(OPT_COMMENT, packet.comment);
  out.option(EPB_FLAGS, Uint8Array.of(packet.inbound ? 1 : 2, 0, 0, 0));
  out.endOptions();
  out.end();
}

/** Little-endian blocks, each with its length before and after. */
class BlockWriter {
  length = 0;
  #buffer = new Uint8Array(2 * CHUNK);
  #view = new DataView(this.#buffer.buffer);
  #start = 0;

  begin(type: number): void {
    this.#start = this.length;
    this.word(type);
    this.word(0);
  }

  end(): void {
    const total = this.length + 4 - this.#start;
    this.word(total);
    this.#view.setUint32(this.#start + 4, total, true);
  }

  word(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.length, value, true);
    this.length += 4;
  }

  half(value: number): void {
    this.#reserve(2);
    this.#view.setUint16(this.length, value, true);
    this.length += 2;
  }

  /** Followed by zeros up to a multiple of four. */
  bytes(content: Uint8Array): void {
    const padded = (content.length + 3) & ~3;
    this.#reserve(padded);
    this.#buffer.set(content, this.length);
    this.#buffer.fill(0, this.length + content.length, this.length + padded);
    this.length += padded;
  }

  option(code: number, content: Uint8Array): void {
    this.half(code);
    this.half(content.length);
    this.bytes(content);
  }

  /** Text beyond what an option can hold is cut between characters. */
  textOption(code: number, text: string): void {
    this.option(code, utf8(text, OPTION_BYTES_MAX));
  }

  endOptions(): void {
    this.word(0);
  }

  take(): Uint8Array {
    const taken = this.#buffer.slice(0, this.length);
    this.length = 0;
    return taken;
  }

  #reserve(bytes: number): void {
    if (this.length + bytes <= this.#buffer.length) return;
    const wider = new Uint8Array(2 * (this.length + bytes));
    wider.set(this.#buffer);
    this.#buffer = wider;
    this.#view = new DataView(wider.buffer);
  }
}
