/**
 * The peer of `bench nfs`: libnfs (Debian: libnfs-dev) driven by a small C program, compiled when the bench is run.
 * It touches the C compiler and a temporary directory.
 *
 * The program mounts the URL it is given and obeys lines on its input: `getattr HANDLE DEPTH WARMUP SECONDS`,
 * `write PATH BLOCKS`, `read PATH BLOCKS`. It answers each with `COUNT SECONDS`, or `error TEXT`. Blocks are of one
 * megabyte, eight of them on the way; block i begins with i, and what is read is compared byte by byte.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '../find.ts';

const HEADER = '/usr/include/nfsc/libnfs-raw-nfs.h';

const SOURCE = `
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

#define BLOCK (1 << 20)
#define WINDOW 8

static struct nfs_context *nfs;
static struct rpc_context *rpc;
static const char *failure;
static long done, outstanding;
static char pattern[BLOCK];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void turn(void) {
  struct pollfd p = {rpc_get_fd(rpc), rpc_which_events(rpc), 0};
  if (poll(&p, 1, 1000) < 0 || rpc_service(rpc, p.revents) < 0) failure = "the connection is lost";
}

static void answered(struct rpc_context *r, int status, void *data, void *private) {
  (void)r; (void)private;
  GETATTR3res *res = data;
  if (status != RPC_STATUS_SUCCESS || res->status != NFS3_OK) failure = "GETATTR failed";
  done++;
  outstanding--;
}

static void drive(struct GETATTR3args *args, int depth, double seconds) {
  double end = now() + seconds;
  for (;;) {
    int more = now() < end && !failure;
    while (more && outstanding < depth) {
      if (rpc_nfs3_getattr_async(rpc, answered, args, NULL)) { failure = "GETATTR not sent"; break; }
      outstanding++;
    }
    if (!outstanding) return;
    turn();
    if (failure) return;
  }
}

static void getattr(const char *hex, int depth, double warmup, double seconds) {
  static char handle[64];
  struct GETATTR3args args = {{{strlen(hex) / 2, handle}}};
  for (unsigned i = 0; i < args.object.data.data_len && i < sizeof handle; i++) {
    unsigned byte;
    sscanf(hex + 2 * i, "%2x", &byte);
    handle[i] = byte;
  }
  drive(&args, depth, warmup);
  done = 0;
  double start = now();
  drive(&args, depth, seconds);
  if (!failure) printf("%ld %.9f\\n", done, now() - start);
}

struct slot { char *data; long block; };

static void moved(int status, struct nfs_context *n, void *data, void *private) {
  (void)n;
  struct slot *slot = private;
  if (status != BLOCK) failure = "a short block";
  else if (data) {
    if (memcmp(data, &slot->block, sizeof slot->block)) failure = "another block";
    else if (memcmp((char *)data + sizeof slot->block, pattern + sizeof slot->block, BLOCK - sizeof slot->block)) failure = "other bytes";
  }
  slot->block = -1;
  outstanding--;
  done++;
}

static void bulk(int writing, const char *path, long blocks) {
  struct nfsfh *file;
  static struct slot slots[WINDOW];
  int flags = writing ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY;
  double start = now();
  long next = 0;
  if (nfs_open2(nfs, path, flags, 0644, &file)) { failure = nfs_get_error(nfs); return; }
  for (int i = 0; i < WINDOW; i++) {
    slots[i].block = -1;
    if (!slots[i].data) slots[i].data = malloc(BLOCK);
    memcpy(slots[i].data, pattern, BLOCK);
  }
  done = 0;
  while (done < blocks && !failure) {
    for (int i = 0; i < WINDOW && next < blocks; i++) {
      struct slot *slot = &slots[i];
      if (slot->block >= 0) continue;
      slot->block = next++;
      outstanding++;
      if (writing) {
        memcpy(slot->data, &slot->block, sizeof slot->block);
        nfs_pwrite_async(nfs, file, (uint64_t)slot->block * BLOCK, BLOCK, slot->data, moved, slot);
      } else {
        nfs_pread_async(nfs, file, (uint64_t)slot->block * BLOCK, BLOCK, moved, slot);
      }
    }
    turn();
  }
  if (!failure && writing && nfs_fsync(nfs, file)) failure = "COMMIT failed";
  if (!failure) nfs_close(nfs, file);
  if (!failure) printf("%ld %.9f\\n", done * BLOCK, now() - start);
}

int main(int argc, char **argv) {
  char line[4096], text[4096];
  int depth;
  long blocks;
  double warmup, seconds;
  nfs = nfs_init_context();
  struct nfs_url *url = argc > 1 ? nfs_parse_url_dir(nfs, argv[1]) : NULL;
  if (!url || nfs_mount(nfs, url->server, url->path)) {
    printf("error %s\\n", nfs_get_error(nfs));
    return 1;
  }
  rpc = nfs_get_rpc_context(nfs);
  for (int i = 0; i < BLOCK; i++) pattern[i] = (i * 2654435761u) >> 24;
  printf("ready\\n");
  for (;;) {
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return 0;
    failure = NULL;
    if (sscanf(line, "getattr %4000s %d %lf %lf", text, &depth, &warmup, &seconds) == 4) getattr(text, depth, warmup, seconds);
    else if (sscanf(line, "write %4000s %ld", text, &blocks) == 2) bulk(1, text, blocks);
    else if (sscanf(line, "read %4000s %ld", text, &blocks) == 2) bulk(0, text, blocks);
    else failure = "no such command";
    if (failure) {
      printf("error %s\\n", failure);
      fflush(stdout);
      return 1;
    }
  }
}
`;

/** Why the program cannot be compiled here, or null. */
export function libnfsMissing(): string | null {
  if (findProgram('cc') === null) return 'there is no C compiler (apt: gcc libc6-dev)';
  return existsSync(HEADER) ? null : 'libnfs cannot be used (apt: libnfs-dev)';
}

export interface LibnfsLoad {
  readonly program: string;
  remove(): void;
}

/** Compiles the program into a directory of its own. */
export function buildLibnfsLoad(): LibnfsLoad {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-libnfs-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  const source = join(directory, 'load.c');
  const program = join(directory, 'load');
  writeFileSync(source, SOURCE);
  const { status, stderr } = spawnSync('cc', ['-O2', '-o', program, source, '-lnfs'], { encoding: 'utf8' });
  if (status === 0) return { program, remove };
  remove();
  throw new Error(`the peer does not compile: ${stderr}`);
}
