/**
 * What kube-proxy does before its first pass, and what it may refuse to begin with.
 * Source: NewProxier and CanUseIPVSProxier, pkg/proxy/ipvs/proxier.go; kubernetes#111806 (1.26: no more falling back
 * to iptables mode), kubernetes#114669 (1.27: no more list of modules); KEP-5495 (the end of the mode).
 */

/** `v1.36`, `6.12.117`: the patch level says nothing here. */
export interface Version {
  readonly major: number;
  readonly minor: number;
}

export interface StartOptions {
  /** Of Kubernetes. */
  readonly release: string;
  /** Of Linux. */
  readonly kernel: string;
  readonly scheduler: string;
  readonly modules: boolean;
  readonly featureGate: 'default' | 'true' | 'false';
  readonly strictARP: boolean;
  /** Nanoseconds; 0 keeps what the kernel has. */
  readonly tcpTimeout: number;
  readonly tcpFinTimeout: number;
  readonly udpTimeout: number;
}

export interface Timeouts {
  readonly tcpS: number;
  readonly tcpFinS: number;
  readonly udpS: number;
}

const SECOND = 1_000_000_000;
const KERNEL_TIMEOUTS: Timeouts = { tcpS: 900, tcpFinS: 120, udpS: 300 };

export function wantedVersion(text: string): string {
  const good = /^v?\d{1,3}\.\d{1,3}(\.\d{1,5})?$/.test(text);
  return good ? '' : 'wanted a version such as v1.36, 6.1 or 6.12.117';
}

export function versionOf(text: string): Version {
  const [major, minor] = text.replace(/^v/, '').split('.').map(Number);
  return { major: major!, minor: minor! };
}

export function isSince(version: Version, major: number, minor: number): boolean {
  return version.major > major || (version.major === major && version.minor >= minor);
}

/** Settings of the kernel in the order in which kube-proxy makes them, as `sysctl -p` reads them. */
export function* startSysctls(options: StartOptions): Generator<string> {
  yield 'net/ipv4/vs/conntrack = 1';
  if (setsReuseMode(options)) yield 'net/ipv4/vs/conn_reuse_mode = 0';
  yield 'net/ipv4/vs/expire_nodest_conn = 1';
  yield 'net/ipv4/vs/expire_quiescent_template = 1';
  yield 'net/ipv4/ip_forward = 1';
  if (!options.strictARP) return;
  yield 'net/ipv4/conf/all/arp_ignore = 1';
  yield 'net/ipv4/conf/all/arp_announce = 2';
}

/** conn_reuse_mode as it then is: 0 where kube-proxy sets it, else the kernel's own. Before 4.1 there is none. */
export function reuseModeOf(options: StartOptions): 0 | 1 {
  return setsReuseMode(options) || !isSince(versionOf(options.kernel), 4, 1) ? 0 : 1;
}

/** Timeouts of connections as `ipvsadm --set` would leave them. */
export function timeoutsOf({ tcpTimeout, tcpFinTimeout, udpTimeout }: StartOptions): Timeouts {
  return {
    tcpS: seconds(tcpTimeout, KERNEL_TIMEOUTS.tcpS),
    tcpFinS: seconds(tcpFinTimeout, KERNEL_TIMEOUTS.tcpFinS),
    udpS: seconds(udpTimeout, KERNEL_TIMEOUTS.udpS),
  };
}

/** Why kube-proxy would not run in this mode, with the way out; undefined if it does. */
export function refusalOf(options: StartOptions): string | undefined {
  const release = versionOf(options.release);
  const name = `kube-proxy ${release.major}.${release.minor}`;
  if (isSince(release, 1, 43)) return `${name} has no IPVS mode (KEP-5495): use another mode`;
  if (isSince(release, 1, 37) && options.featureGate === 'false') {
    return `${name} refuses IPVS mode: the feature gate KubeProxyIPVS is off`;
  }
  if (isSince(release, 1, 40) && options.featureGate === 'default') {
    return `${name} refuses IPVS mode unless the feature gate KubeProxyIPVS is switched on (KEP-5495)`;
  }
  if (options.modules) return undefined;
  if (isSince(release, 1, 27)) {
    return (
      `${name} exits: can't use the IPVS proxier: a trial virtual server with scheduler ${options.scheduler} could not be ` +
      `made; the kernel needs ip_vs and ip_vs_${options.scheduler}`
    );
  }
  const needs = `${requiredModules(options.kernel).join(', ')} and ipset`;
  if (isSince(release, 1, 26)) return `${name} exits: can't use the IPVS proxier; it needs ${needs}`;
  return `${name} falls back to iptables mode, for IPVS it needs ${needs}: look at --modes iptables instead`;
}

/**
 * What a reader must know of this release, if anything. The mode is deprecated since 1.35, which is but a line in
 * the log and an event; from 1.37 there is a gate.
 */
export function releaseRemark({ release }: StartOptions): string | undefined {
  const version = versionOf(release);
  if (!isSince(version, 1, 37)) return undefined;
  const gate = isSince(version, 1, 40)
    ? 'it runs only with the feature gate KubeProxyIPVS switched on, and not at all from 1.43 on'
    : 'from 1.40 on it needs the feature gate KubeProxyIPVS, from 1.43 on there is none';
  return `IPVS mode is deprecated (KEP-5495): ${gate}.`;
}

function seconds(set: number, kernels: number): number {
  return Math.floor(set / SECOND) || kernels;
}

/** Before 1.27 kube-proxy looked for these by name. */
function requiredModules(kernel: string): readonly string[] {
  const conntrack = isSince(versionOf(kernel), 4, 19) ? 'nf_conntrack' : 'nf_conntrack_ipv4';
  return ['ip_vs', 'ip_vs_rr', 'ip_vs_wrr', 'ip_vs_sh', conntrack];
}

/** From 5.9 on the kernel's own mode does no harm. */
function setsReuseMode({ kernel }: StartOptions): boolean {
  const version = versionOf(kernel);
  return isSince(version, 4, 1) && !isSince(version, 5, 9);
}
