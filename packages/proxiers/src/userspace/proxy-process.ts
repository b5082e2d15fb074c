import { ACK, FIN, FROM_HOST, FROM_POD, Packet, RST, SYN, TCP, UDP } from '@vipsim/sim-core';
import type { Counts } from '../cost/operations.ts';
import type { Endpoints } from '../kubernetes/cluster.ts';
import { DROP, FORWARD, REJECT, type Recorder, type Verdict } from '../proxier.ts';
import { NO_ENDPOINT, type RoundRobin } from './balancer.ts';
import { OpenFiles } from './open-files.ts';
import { OPERATION } from './operations.ts';
import type { Portals } from './portals.ts';
import { ACCEPTS, REFUSES, SILENT, type Answer, type Reachability } from '../reachability.ts';
import { CLOSED, DIALLING, OPEN, Sessions } from './sessions.ts';
import { NO_PORT, SourcePorts } from './source-ports.ts';
import type { Stack } from './stack.ts';

const ACCEPT = OPERATION['userspace.accept'];
const DIAL = OPERATION['userspace.dial'];
const CLOSE = OPERATION['userspace.close'];
const LOCK = OPERATION['userspace.lock'];
const GOROUTINE = OPERATION['userspace.goroutine'];
const WAKE = OPERATION['userspace.wake'];
const SYSCALL = OPERATION['userspace.syscall'];
const BYTE = OPERATION['userspace.byte'];

/** endpointDialTimeout of proxysocket.go: 250 ms, 500 ms, 1 s, 2 s. */
export const DIAL_TIMEOUTS_NS: readonly number[] = [250_000_000, 500_000_000, 1_000_000_000, 2_000_000_000];
/** io.Copy's buffer. */
const BUFFER_BYTES = 32_768;
/** The buffer of a UDP reader: what is longer is cut. */
const DATAGRAM_BYTES = 4096;
/** TCP_TIMEWAIT_LEN. */
const TIME_WAIT_NS = 60_000_000_000;

/** EADDRNOTAVAIL: no port is left towards the endpoint. */
const UNSENT = -1;

const TO_ENDPOINT = 0;
const TO_CLIENT = 1;

/**
 * The proxy process behind the redirected packets.
 *
 * Models: per service port one loop that accepts and dials inline, with four timeouts, the balancer asked at each
 * attempt and affinity set aside after the first; connections waiting while the loop dials; two sockets and two
 * conntrack flows a connection; copying through a 32 KiB buffer; both sockets closed when either side ends; per UDP
 * client a socket, given up after an idle time, and datagrams cut at 4,096 bytes; the limit of open files, at which
 * kube-proxy panics (here the connections beyond it are refused, and counted).
 * Source: pkg/proxy/userspace/proxysocket.go (Kubernetes 1.22).
 * Fitted to packets that come one by one: the client's SYN carries the dial with it, and the endpoint's SYN-ACK
 * answers the client, where the proxy's own kernel would answer first and the client's data would wait. Without a
 * Reachability a dial is seen to have failed when the client sends its SYN again, or when the endpoint resets.
 * Packets of one direction that arrive at the same instant are read together, as GRO would hand them over.
 * Not modelled: splice(2), which Go uses from 1.11 on; contention for the balancer's mutex and for the process's
 * threads; SYN retransmissions within a dial; keep-alive probes, so that a session whose ends vanish stays.
 */
export class ProxyProcess {
  readonly sessions = new Sessions();
  /** Between the packet's arrival and what leaves for it, besides the work: dials that failed, a busy loop. */
  delayNs = 0;
  /** Dials made, and connections that came to nothing: four dials failed, no endpoint, no port. */
  dials = 0;
  failures = 0;
  readonly files = new OpenFiles();
  recorder: Recorder | undefined;
  readonly #stack: Stack;
  readonly #portals: Portals;
  readonly #balancer: RoundRobin;
  readonly #endpoints: Endpoints;
  readonly #ports: SourcePorts;
  readonly #reachability: Reachability;
  readonly #udpIdleNs: number;
  readonly #payloadBytes: number;
  readonly #inner = new Packet();
  readonly #reset = new Packet();
  /** By service port: until when its loop dials. */
  readonly #busyNs: Float64Array;
  // The tuple whose source port is being looked for.
  #address = 0;
  #port = 0;
  readonly #taken = (candidate: number): boolean =>
    this.#portals.servicePortAt(TCP, candidate) >= 0 ||
    this.sessions.ofEndpoint(TCP, this.#address, this.#port, candidate) >= 0;
  readonly #expired = (session: number): void => this.#end(session);

  constructor(setup: {
    readonly stack: Stack;
    readonly portals: Portals;
    readonly balancer: RoundRobin;
    readonly endpoints: Endpoints;
    readonly ports: SourcePorts;
    readonly reachability: Reachability;
    readonly udpIdleNs: number;
    readonly payloadBytes: number;
  }) {
    this.#stack = setup.stack;
    this.#portals = setup.portals;
    this.#balancer = setup.balancer;
    this.#endpoints = setup.endpoints;
    this.#ports = setup.ports;
    this.#reachability = setup.reachability;
    this.#udpIdleNs = setup.udpIdleNs;
    this.#payloadBytes = setup.payloadBytes;
    this.#busyNs = new Float64Array(setup.portals.proxyPort.length);
  }

  /** Its listening sockets are open. */
  listen(): void {
    this.files.held = this.#portals.sockets();
    for (const port of this.#portals.proxyPort) {
      if (this.#portals.servicePortAt(UDP, port) >= 0) this.#ports.setUdp(port, true);
    }
  }

  /** A packet has reached a service port's socket; what the proxy does goes into `verdict`. */
  fromClient(packet: Packet, servicePort: number, nowNs: number, verdict: Verdict): void {
    const { sessions } = this;
    const known = sessions.ofClient(packet.protocol, packet.source, packet.sourcePort, servicePort);
    if (packet.protocol === UDP) this.#datagramFromClient(packet, servicePort, known, nowNs, verdict);
    else if ((packet.flags & SYN) !== 0) this.#synFromClient(packet, servicePort, known, nowNs, verdict);
    else if (known < 0) verdict.fate = REJECT;
    else this.#relayToEndpoint(packet, known, nowNs, verdict);
  }

  /** A packet has come for the node's own port. False if no session has that port towards its sender. */
  fromEndpoint(packet: Packet, nowNs: number, verdict: Verdict): boolean {
    const { sessions } = this;
    const { protocol, source, sourcePort, destinationPort } = packet;
    const session = sessions.ofEndpoint(protocol, source, sourcePort, destinationPort);
    if (session < 0) return false;
    if (protocol === UDP) {
      if (sessions.deadlineNs[session]! <= nowNs) {
        this.#end(session);
        verdict.fate = REJECT;
        return true;
      }
      sessions.deadlineNs[session] = nowNs + this.#udpIdleNs;
      this.#copyDatagram(verdict.counts);
    } else {
      this.#followEndpoint(packet.flags, session, nowNs, verdict.counts);
    }
    this.#sendToClient(packet.flags, session, nowNs, verdict);
    if (protocol === TCP && (packet.flags & RST) !== 0) this.#end(session);
    return true;
  }

  expire(nowNs: number): void {
    this.sessions.expire(nowNs, this.#expired);
  }

  #synFromClient(packet: Packet, servicePort: number, known: number, nowNs: number, verdict: Verdict): void {
    const { sessions } = this;
    const { counts } = verdict;
    if (known >= 0 && sessions.state[known] === DIALLING) {
      // Nothing has come back since the last SYN: that dial is over, the next of the four begins.
      counts[CLOSE]! += 1;
      counts[WAKE]! += 1;
      sessions.disconnect(known);
      this.#dial(known, nowNs, verdict);
      return;
    }
    if (known >= 0) {
      if (sessions.state[known] === OPEN) this.#shut(known, nowNs, counts);
      sessions.leaveClient(known);
    }
    if (!this.files.take(2)) {
      verdict.fate = REJECT;
      return;
    }
    counts[WAKE]! += 1;
    counts[ACCEPT]! += 1;
    const session = sessions.open(TCP, packet.source, packet.sourcePort, servicePort);
    this.#dial(session, nowNs, verdict);
  }

  /** Go on with the attempts that are left; the session ends when none succeeds. */
  #dial(session: number, nowNs: number, verdict: Verdict): void {
    const { sessions } = this;
    const { counts } = verdict;
    const servicePort = sessions.servicePort[session]!;
    let atNs = Math.max(nowNs, this.#busyNs[servicePort]!);
    while (sessions.attempts[session]! < DIAL_TIMEOUTS_NS.length) {
      const attempt = sessions.attempts[session]!;
      counts[LOCK]! += 1;
      const endpoint = this.#balancer.next(servicePort, sessions.client[session]!, attempt > 0, atNs);
      this.recorder?.step('balancer', this.#describe(attempt, endpoint));
      if (endpoint === NO_ENDPOINT) break;
      sessions.attempts[session] = attempt + 1;
      counts[DIAL]! += 1;
      this.dials++;
      const answer = this.#connect(session, endpoint, atNs, verdict);
      if (answer === ACCEPTS) {
        this.#busyNs[servicePort] = atNs + this.#reachability.roundTripNs(endpoint);
        this.delayNs = atNs - nowNs;
        verdict.endpoint = endpoint;
        return;
      }
      counts[WAKE]! += 1;
      counts[CLOSE]! += 1;
      if (answer === SILENT) {
        atNs += DIAL_TIMEOUTS_NS[attempt]!;
      } else if (answer === REFUSES) {
        this.#receiveReset(session, atNs, verdict);
        atNs += this.#reachability.roundTripNs(endpoint);
      }
      if (answer !== UNSENT) sessions.disconnect(session);
    }
    this.#busyNs[servicePort] = atNs;
    this.delayNs = atNs - nowNs;
    this.failures++;
    counts[CLOSE]! += 1;
    this.#end(session);
    verdict.fate = REJECT;
  }

  /** Give the session a socket towards an endpoint, send the SYN, and learn what comes of it. */
  #connect(session: number, endpoint: number, nowNs: number, verdict: Verdict): Answer | typeof UNSENT {
    const address = (this.#address = this.#endpoints.address[endpoint]!);
    const port = (this.#port = this.#endpoints.port[endpoint]!);
    const sourcePort = this.#ports.tcp(address, port, this.#taken);
    if (sourcePort === NO_PORT) return UNSENT;
    this.sessions.connect(session, endpoint, address, port, sourcePort);
    // The conntrack table may have had no room at an attempt before; connect() does not hear of a lost SYN.
    verdict.fate = FORWARD;
    if (!this.#sendToEndpoint(SYN, session, nowNs, verdict)) return SILENT;
    return this.#reachability.answer(endpoint, nowNs);
  }

  #relayToEndpoint(packet: Packet, session: number, nowNs: number, verdict: Verdict): void {
    const { sessions } = this;
    if (sessions.state[session] === OPEN) {
      if ((packet.flags & (FIN | RST)) !== 0) this.#shut(session, nowNs, verdict.counts);
      else if (sessions.greeted[session] === 0) sessions.greeted[session] = 1;
      else this.#copy(session, TO_ENDPOINT, nowNs, verdict.counts);
    }
    this.#sendToEndpoint(packet.flags, session, nowNs, verdict);
  }

  #followEndpoint(flags: number, session: number, nowNs: number, counts: Counts): void {
    const { sessions } = this;
    if (sessions.state[session] === DIALLING) {
      counts[WAKE]! += 1;
      if ((flags & RST) !== 0) {
        this.failures++;
        counts[CLOSE]! += 2;
      } else {
        // One to look after the connection, and one for each direction.
        counts[GOROUTINE]! += 3;
        sessions.state[session] = OPEN;
      }
    } else if (sessions.state[session] === OPEN) {
      if ((flags & (FIN | RST)) !== 0) this.#shut(session, nowNs, counts);
      else if ((flags & SYN) === 0) this.#copy(session, TO_CLIENT, nowNs, counts);
    }
  }

  /** One direction has ended: its reader closes both sockets, which wakes and ends the other reader. */
  #shut(session: number, nowNs: number, counts: Counts): void {
    counts[WAKE]! += 2;
    counts[SYSCALL]! += 1;
    counts[CLOSE]! += 2;
    this.sessions.state[session] = CLOSED;
    this.sessions.deadlineNs[session] = nowNs + TIME_WAIT_NS;
    this.files.release(2);
  }

  /** Read, write, and read again to learn that there is no more. */
  #copy(session: number, direction: number, nowNs: number, counts: Counts): void {
    const { readNs, readBytes } = this.sessions;
    const at = session * 2 + direction;
    const bytes = this.#payloadBytes;
    if (readNs[at] === nowNs && readBytes[at]! + bytes <= BUFFER_BYTES) {
      readBytes[at]! += bytes;
    } else {
      readNs[at] = nowNs;
      readBytes[at] = bytes;
      counts[WAKE]! += 1;
      counts[SYSCALL]! += 3;
    }
    counts[BYTE]! += 2 * bytes;
  }

  #datagramFromClient(
    packet: Packet,
    servicePort: number,
    known: number,
    nowNs: number,
    verdict: Verdict,
  ): void {
    const { sessions } = this;
    const { counts } = verdict;
    let session = known;
    if (session >= 0 && sessions.deadlineNs[session]! <= nowNs) {
      this.#end(session);
      session = -1;
    }
    if (session < 0) {
      session = this.#openDatagrams(packet, servicePort, nowNs, verdict);
      if (session < 0) {
        verdict.fate = DROP;
        return;
      }
    }
    sessions.deadlineNs[session] = nowNs + this.#udpIdleNs;
    this.#copyDatagram(counts);
    this.#sendToEndpoint(0, session, nowNs, verdict);
  }

  /** A socket for a new client; -1 without an endpoint, a port or a file: the datagram is lost. */
  #openDatagrams(packet: Packet, servicePort: number, nowNs: number, verdict: Verdict): number {
    const { counts } = verdict;
    counts[LOCK]! += 1;
    const endpoint = this.#balancer.next(servicePort, packet.source, false, nowNs);
    this.recorder?.step('balancer', this.#describe(0, endpoint));
    if (endpoint === NO_ENDPOINT) {
      this.failures++;
      return -1;
    }
    if (!this.files.take(1)) return -1;
    counts[DIAL]! += 1;
    this.dials++;
    const sourcePort = this.#ports.udp();
    if (sourcePort === NO_PORT) {
      this.files.release(1);
      this.failures++;
      return -1;
    }
    counts[GOROUTINE]! += 1;
    const session = this.sessions.open(UDP, packet.source, packet.sourcePort, servicePort);
    const { address, port } = this.#endpoints;
    this.sessions.connect(session, endpoint, address[endpoint]!, port[endpoint]!, sourcePort);
    this.sessions.state[session] = OPEN;
    verdict.endpoint = endpoint;
    return session;
  }

  #copyDatagram(counts: Counts): void {
    counts[WAKE]! += 1;
    counts[SYSCALL]! += 3;
    counts[BYTE]! += 2 * Math.min(this.#payloadBytes, DATAGRAM_BYTES);
  }

  /** The session and what sockets it has left are gone. */
  #end(session: number): void {
    const { sessions } = this;
    if (sessions.protocol[session] === UDP) {
      this.#ports.setUdp(sessions.sourcePort[session]!, false);
      this.files.release(1);
    } else if (sessions.state[session] !== CLOSED) {
      this.files.release(2);
    }
    sessions.close(session);
  }

  #sendToEndpoint(flags: number, session: number, nowNs: number, verdict: Verdict): boolean {
    const { sessions } = this;
    const inner = this.#inner;
    inner.source = this.#stack.nodeAddress;
    inner.sourcePort = sessions.sourcePort[session]!;
    inner.destination = sessions.address[session]!;
    inner.destinationPort = sessions.port[session]!;
    inner.protocol = sessions.protocol[session]!;
    inner.flags = flags;
    inner.origin = FROM_HOST;
    return this.#stack.send(inner, nowNs, verdict);
  }

  #sendToClient(flags: number, session: number, nowNs: number, verdict: Verdict): void {
    const { sessions } = this;
    const inner = this.#inner;
    inner.source = this.#stack.nodeAddress;
    inner.sourcePort = this.#portals.proxyPort[sessions.servicePort[session]!]!;
    inner.destination = sessions.client[session]!;
    inner.destinationPort = sessions.clientPort[session]!;
    inner.protocol = sessions.protocol[session]!;
    inner.flags = flags;
    inner.origin = FROM_HOST;
    this.#stack.send(inner, nowNs, verdict);
  }

  /** The endpoint's reset of a dial comes in, and its conntrack entry goes. */
  #receiveReset(session: number, nowNs: number, verdict: Verdict): void {
    const reset = this.#reset;
    reset.source = this.sessions.address[session]!;
    reset.sourcePort = this.sessions.port[session]!;
    reset.destination = this.#stack.nodeAddress;
    reset.destinationPort = this.sessions.sourcePort[session]!;
    reset.protocol = TCP;
    reset.flags = RST | ACK;
    reset.origin = FROM_POD;
    this.#stack.receive(reset, nowNs, this.#portals.proxyPort, verdict);
  }

  #describe(attempt: number, endpoint: number): string {
    if (endpoint === NO_ENDPOINT) return 'no endpoint: the connection is closed again';
    const again = attempt === 0 ? '' : `, dial ${attempt + 1} of 4, affinity aside`;
    return `${this.#endpoints.text(endpoint)}${again}`;
  }
}
