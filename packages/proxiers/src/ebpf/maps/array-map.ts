/** sizeof(struct bpf_array) without its values, as the kernel charges it. */
const HEADER_BYTES = 312;

/**
 * BPF_MAP_TYPE_ARRAY: values side by side, each rounded up to 8 bytes, all there from the start and all zero.
 * An update copies over the old value; a reader may see half of each if it is longer than 8 bytes.
 * Source: kernel/bpf/arraymap.c. Not modelled: the rounding of the size to a power of two that spares unprivileged
 * programs from speculation; per-CPU and mmapable arrays.
 */
export class ArrayMap {
  readonly name: string;
  readonly valueBytes: number;
  readonly entries: number;
  /** Words between the beginnings of two values. */
  readonly stride: number;
  /** All values in order; entry i begins at i × `stride`. */
  readonly values: Uint32Array;

  constructor(name: string, valueBytes: number, entries: number) {
    this.name = name;
    this.valueBytes = valueBytes;
    this.entries = entries;
    this.stride = Math.ceil(valueBytes / 8) * 2;
    this.values = new Uint32Array(entries * this.stride);
  }

  /** Where in `values` entry `index` begins; -1 if there is no such entry: a program gets no value, a system call ENOENT. */
  lookup(index: number): number {
    return index < this.entries ? index * this.stride : -1;
  }

  /** Whether this map may stand where `template` was given as the inner map: array_map_meta_equal. */
  fits(template: ArrayMap): boolean {
    return this.valueBytes === template.valueBytes && this.entries === template.entries;
  }

  /** Kernel memory: the values and the map's own record. */
  bytes(): number {
    return HEADER_BYTES + this.values.length * 4;
  }
}
