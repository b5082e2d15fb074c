/** RLIMIT_NOFILE as kube-proxy sets it at its start (proxier.go, setRLimit). */
export const OPEN_FILES_MAX = 64_000;

/** The process's file descriptors. At the limit accept and connect fail with EMFILE, at which kube-proxy panics. */
export class OpenFiles {
  held = 0;
  /** Connections and UDP clients that hold any, TIME_WAIT aside, and the most there ever were. */
  sessions = 0;
  peak = 0;
  /** Connections and datagrams that found no descriptor left. */
  refused = 0;

  /** Take `files` for a session; false, and counted, if there are not so many. */
  take(files: number): boolean {
    if (this.held + files > OPEN_FILES_MAX) {
      this.refused++;
      return false;
    }
    this.held += files;
    this.sessions++;
    if (this.sessions > this.peak) this.peak = this.sessions;
    return true;
  }

  release(files: number): void {
    this.held -= files;
    this.sessions--;
  }
}
