/**
 * A mail server's work on small files after PostMark (Katcher, NetApp TR-3022), deterministic and compiled when the bench is run.
 * It touches the C compiler and the directory it is given.
 *
 * `postmark FILES TRANSACTIONS` in an empty directory: makes so many files of 500 to 10,000 bytes; each transaction reads a
 * whole file or appends to one, and makes or deletes one; at the end all are deleted. What was read is checked.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SOURCE = `
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOW = 500, HIGH = 10000, BLOCK = 4096 };
static unsigned state = 42, files, made;
static struct { unsigned number, size; } *pool;
static char data[HIGH];
static unsigned long long bytesRead, bytesWritten;

static unsigned next(unsigned n) { state = state * 1664525u + 1013904223u; return (state >> 8) % n; }
static void fail(const char *what, unsigned file) { fprintf(stderr, "%s %u: %s\\n", what, file, strerror(errno)); exit(1); }
static const char *name(unsigned number) { static char text[16]; snprintf(text, sizeof text, "%u", number); return text; }

static void put(int fd, unsigned size, unsigned number) {
  for (unsigned at = 0; at < size;) {
    unsigned n = size - at < BLOCK ? size - at : BLOCK;
    if (write(fd, data + at, n) != (ssize_t)n) fail("write", number);
    at += n;
    bytesWritten += n;
  }
  if (close(fd)) fail("close", number);
}

static void create(void) {
  unsigned number = ++made, size = LOW + next(HIGH - LOW + 1);
  int fd = open(name(number), O_RDWR | O_CREAT, 0644);
  if (fd < 0) fail("create", number);
  put(fd, size, number);
  pool[files].number = number;
  pool[files++].size = size;
}

static void delete(unsigned i) {
  if (unlink(name(pool[i].number))) fail("delete", pool[i].number);
  pool[i] = pool[--files];
}

static void readWhole(unsigned i) {
  char block[BLOCK];
  ssize_t n;
  unsigned size = 0;
  int fd = open(name(pool[i].number), O_RDONLY);
  if (fd < 0) fail("open", pool[i].number);
  while ((n = read(fd, block, BLOCK)) > 0) {
    if (size == 0 && memcmp(block, data, 500)) fail("compare", pool[i].number);
    size += n;
  }
  if (n < 0 || size != pool[i].size) fail("read", pool[i].number);
  close(fd);
  bytesRead += size;
}

static void append(unsigned i) {
  unsigned size = LOW + next(HIGH - LOW + 1);
  int fd = open(name(pool[i].number), O_RDWR | O_APPEND);
  if (fd < 0) fail("open", pool[i].number);
  put(fd, size, pool[i].number);
  pool[i].size += size;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  unsigned count = atoi(argv[1]), transactions = atoi(argv[2]);
  pool = calloc(count + transactions + 1, sizeof *pool);
  for (unsigned i = 0; i < HIGH; i++) data[i] = 'a' + i % 26;
  for (unsigned i = 0; i < count; i++) create();
  for (unsigned i = 0; i < transactions; i++) {
    if (files) { if (next(2)) readWhole(next(files)); else append(next(files)); }
    if (!files || next(2)) create(); else delete(next(files));
  }
  while (files) delete(files - 1);
  printf("created %u, read %llu bytes, wrote %llu bytes\\n", made, bytesRead, bytesWritten);
  return 0;
}
`;

/** Compiles it into a directory. @returns the program's path */
export function buildPostmark(directory: string): string {
  const source = join(directory, 'postmark.c');
  const program = join(directory, 'postmark');
  writeFileSync(source, SOURCE);
  const { status, stderr } = spawnSync('cc', ['-O1', '-static', '-o', program, source], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cc failed: ${stderr}`);
  return program;
}
