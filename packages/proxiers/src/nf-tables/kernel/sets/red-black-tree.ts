import { longer } from '@vipsim/sim-core';

/**
 * A red-black tree of numbered nodes, linked and balanced by the steps of lib/rbtree.c. Nodes count from 1; 0 is
 * none. Where a new node goes is the caller's: descend with `left` and `right`, then `link`.
 */
export class RedBlackTree {
  root = 0;
  left = new Int32Array(8);
  right = new Int32Array(8);
  parent = new Int32Array(8);
  #black = new Uint8Array(8).fill(1);

  /** Make room for nodes below this number. */
  reserve(nodes: number): void {
    if (nodes <= this.left.length) return;
    const capacity = Math.max(nodes, 2 * this.left.length);
    this.left = longer(this.left, capacity);
    this.right = longer(this.right, capacity);
    this.parent = longer(this.parent, capacity);
    this.#black = longer(this.#black, capacity);
  }

  link(node: number, parent: number, onLeft: boolean): void {
    this.left[node] = 0;
    this.right[node] = 0;
    this.parent[node] = parent;
    this.#black[node] = 0;
    if (parent === 0) this.root = node;
    else if (onLeft) this.left[parent] = node;
    else this.right[parent] = node;
    this.#afterInsertion(node);
  }

  unlink(node: number): void {
    const { left, right } = this;
    let child: number;
    let above: number;
    let black = this.#black[node] === 1;
    if (left[node] === 0 || right[node] === 0) {
      child = left[node] !== 0 ? left[node]! : right[node]!;
      above = this.parent[node]!;
      this.#replace(node, child);
    } else {
      const next = this.#leftmost(right[node]!);
      black = this.#black[next] === 1;
      child = right[next]!;
      above = this.parent[next] === node ? next : this.parent[next]!;
      if (above !== next) {
        this.#replace(next, child);
        right[next] = right[node]!;
        this.parent[right[next]!] = next;
      }
      this.#replace(node, next);
      left[next] = left[node]!;
      this.parent[left[next]!] = next;
      this.#black[next] = this.#black[node]!;
    }
    if (black) this.#afterRemoval(child, above);
  }

  first(): number {
    return this.root === 0 ? 0 : this.#leftmost(this.root);
  }

  next(node: number): number {
    if (this.right[node] !== 0) return this.#leftmost(this.right[node]!);
    let above = this.parent[node]!;
    while (above !== 0 && node === this.right[above]) {
      node = above;
      above = this.parent[node]!;
    }
    return above;
  }

  previous(node: number): number {
    let below = this.left[node]!;
    if (below !== 0) {
      while (this.right[below] !== 0) below = this.right[below]!;
      return below;
    }
    let above = this.parent[node]!;
    while (above !== 0 && node === this.left[above]) {
      node = above;
      above = this.parent[node]!;
    }
    return above;
  }

  isBlack(node: number): boolean {
    return this.#black[node] === 1;
  }

  #leftmost(node: number): number {
    while (this.left[node] !== 0) node = this.left[node]!;
    return node;
  }

  #replace(node: number, by: number): void {
    const above = this.parent[node]!;
    if (above === 0) this.root = by;
    else if (this.left[above] === node) this.left[above] = by;
    else this.right[above] = by;
    if (by !== 0) this.parent[by] = above;
  }

  /** Turn a node down: its child on the other side takes its place. */
  #rotate(node: number, toLeft: boolean): void {
    const near = toLeft ? this.right : this.left;
    const far = toLeft ? this.left : this.right;
    const child = near[node]!;
    near[node] = far[child]!;
    if (near[node] !== 0) this.parent[near[node]!] = node;
    this.#replace(node, child);
    far[child] = node;
    this.parent[node] = child;
  }

  #afterInsertion(node: number): void {
    const black = this.#black;
    while (this.parent[node] !== 0 && black[this.parent[node]!] === 0) {
      const above = this.parent[node]!;
      const grand = this.parent[above]!;
      const onLeft = above === this.left[grand];
      const uncle = onLeft ? this.right[grand]! : this.left[grand]!;
      if (uncle !== 0 && black[uncle] === 0) {
        black[above] = 1;
        black[uncle] = 1;
        black[grand] = 0;
        node = grand;
        continue;
      }
      if (node === (onLeft ? this.right[above] : this.left[above])) {
        node = above;
        this.#rotate(node, onLeft);
      }
      black[this.parent[node]!] = 1;
      black[grand] = 0;
      this.#rotate(grand, !onLeft);
    }
    black[this.root] = 1;
  }

  #afterRemoval(node: number, above: number): void {
    const black = this.#black;
    while (node !== this.root && (node === 0 || black[node] === 1)) {
      const onLeft = node === this.left[above];
      let sibling = onLeft ? this.right[above]! : this.left[above]!;
      if (black[sibling] === 0) {
        black[sibling] = 1;
        black[above] = 0;
        this.#rotate(above, onLeft);
        sibling = onLeft ? this.right[above]! : this.left[above]!;
      }
      const outer = onLeft ? this.right[sibling]! : this.left[sibling]!;
      const inner = onLeft ? this.left[sibling]! : this.right[sibling]!;
      if ((outer === 0 || black[outer] === 1) && (inner === 0 || black[inner] === 1)) {
        black[sibling] = 0;
        node = above;
        above = this.parent[node]!;
        continue;
      }
      if (outer === 0 || black[outer] === 1) {
        black[inner] = 1;
        black[sibling] = 0;
        this.#rotate(sibling, !onLeft);
        sibling = onLeft ? this.right[above]! : this.left[above]!;
      }
      black[sibling] = black[above]!;
      black[above] = 1;
      black[onLeft ? this.right[sibling]! : this.left[sibling]!] = 1;
      this.#rotate(above, onLeft);
      node = this.root;
    }
    if (node !== 0) black[node] = 1;
  }
}
