import { ebpf } from './ebpf/mode.ts';
import { iptables } from './iptables/mode.ts';
import { ipvs } from './ipvs/mode.ts';
import type { Mode } from './proxier.ts';

/** Every mode, in the order of reports. */
export const MODES: readonly Mode[] = [iptables, ipvs, ebpf] as unknown as readonly Mode[];
