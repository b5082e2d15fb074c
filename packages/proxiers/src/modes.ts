import { ebpf } from './ebpf/mode.ts';
import { iptables } from './iptables/mode.ts';
import { ipvs } from './ipvs/mode.ts';
import { nftables } from './nftables/mode.ts';
import type { Mode } from './proxier.ts';
import { userspace } from './userspace/mode.ts';

const CURRENT = [iptables, nftables, ipvs, ebpf];

/** Every mode, in the order of reports. */
export const MODES: readonly Mode[] = [...CURRENT, userspace] as unknown as readonly Mode[];

/** Those that a comparison takes unless told otherwise: what a cluster can still run. */
export const DEFAULT_MODES: readonly string[] = CURRENT.map(({ name }) => name);
