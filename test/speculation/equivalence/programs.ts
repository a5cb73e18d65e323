/**
 * Programs for equivalence runs: scripts of ordinary tools, and a C program that does random file operations and says what came of each.
 * Text only; who runs them compiles the C program first. All of them work in the current directory and print nothing that time decides.
 */
import { random } from '../engine/model.ts';

/**
 * Random operations by seed on a small tree, each with its result on standard output. Usage: fileops SEED COUNT; with a third
 * argument a small PostMark: files are made, read, appended to, made and removed, and all removed in the end.
 */
export const FILE_OPERATIONS_C = `
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned state;
static unsigned next(unsigned n) { state = state * 1664525u + 1013904223u; return (state >> 8) % n; }
static const char *name(void) {
  static char buffers[4][64]; static int turn; char *b = buffers[turn++ & 3];
  if (next(3) == 0) snprintf(b, 64, "f%u", next(6)); else snprintf(b, 64, "d%u/f%u", next(3), next(5));
  return b;
}
static const char *dirname_(void) { static char b[64]; snprintf(b, 64, next(4) == 0 ? "d%u/s" : "d%u", next(3)); return b; }
static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static unsigned sum(const unsigned char *p, long n) { unsigned h = 2166136261u; while (n-- > 0) h = (h ^ *p++) * 16777619u; return h; }
static char data[70000];

static void list(const char *path) {
  DIR *d = opendir(path); char *names[200]; int n = 0;
  if (!d) { printf("list %s %s\\n", path, strerror(errno)); return; }
  for (struct dirent *e; (e = readdir(d)) && n < 200;) if (e->d_name[0] != '.') names[n++] = strdup(e->d_name);
  closedir(d); qsort(names, n, sizeof *names, compare);
  printf("list %s:", path); for (int i = 0; i < n; i++) { printf(" %s", names[i]); free(names[i]); } printf("\\n");
}
static void writeTo(const char *path, int flags, int mode, unsigned size) {
  int fd = open(path, flags, mode);
  if (fd < 0) { printf("open %s %x %s\\n", path, flags, strerror(errno)); return; }
  for (unsigned i = 0; i < size; i++) data[i] = 'a' + (i * 7 + size) % 26;
  long got = 0; for (unsigned at = 0; at < size;) { unsigned n = size - at > 5000 ? 5000 : size - at; long w = write(fd, data + at, n); if (w < 0) { got = -errno; break; } got += w; at += w; }
  struct stat s; int r = fstat(fd, &s);
  int c = close(fd) ? errno : 0;
  printf("write %s %x %ld size %ld mode %o close %d\\n", path, flags, got, r ? -1L : (long)s.st_size, r ? 0 : s.st_mode, c);
}
static void readFrom(const char *path) {
  int fd = open(path, O_RDONLY); if (fd < 0) { printf("read %s %s\\n", path, strerror(errno)); return; }
  long n = 0, r; while ((r = read(fd, data + n, sizeof data - n)) > 0) n += r;
  printf("read %s %ld %08x%s\\n", path, n, sum((unsigned char *)data, n), r < 0 ? strerror(errno) : ""); close(fd);
}
static void did(const char *what, const char *a, const char *b, int r) { printf("%s %s %s %s\\n", what, a, b, r ? strerror(errno) : "ok"); }

static void one(void) {
  const char *a = name(), *b = name(); struct stat s; char target[128];
  switch (next(16)) {
  case 0: case 1: writeTo(a, O_WRONLY | O_CREAT | O_TRUNC, 0644, next(9000)); break;
  case 2: writeTo(a, O_WRONLY | O_CREAT | O_EXCL, 0600, next(300)); break;
  case 3: writeTo(a, O_WRONLY | O_APPEND, 0, next(20000)); break;
  case 4: did("mkdir", dirname_(), "", mkdir(dirname_(), 0755)); break;
  case 5: did("unlink", a, "", unlink(a)); break;
  case 6: did("rename", a, b, rename(a, b)); break;
  case 7: did("link", a, b, link(a, b)); break;
  case 8: snprintf(target, sizeof target, "../t%u", next(9)); did("symlink", target, b, symlink(target, b)); break;
  case 9: did("chmod", a, "", chmod(a, next(2) ? 0640 : 0755)); break;
  case 10: did("truncate", a, "", truncate(a, next(4000))); break;
  case 11: did("rmdir", dirname_(), "", rmdir(dirname_())); break;
  case 12: case 13:
    if (lstat(a, &s)) printf("stat %s %s\\n", a, strerror(errno));
    else printf("stat %s %o %ld %ld\\n", a, s.st_mode, S_ISDIR(s.st_mode) ? 0L : (long)s.st_nlink, S_ISDIR(s.st_mode) ? 0L : (long)s.st_size);
    break;
  case 14: readFrom(a); break;
  default: list(next(2) ? "." : dirname_());
  }
  ssize_t n = next(5) ? -1 : readlink(b, target, sizeof target - 1);
  if (n > 0) { target[n] = 0; printf("readlink %s %s\\n", b, target); }
}

static void postmark(int count) {
  static char live[4000]; char path[32]; int made = 0; long bytes = 0;
  for (int i = 0; i < 5; i++) { snprintf(path, 32, "s%d", i); did("mkdir", path, "", mkdir(path, 0755)); }
  for (int i = 0; i < count * 2; i++) {
    int n = made > 0 ? (int)next(made) : 0;
    if (i < count / 2 || next(4) == 0) { n = made++; live[n] = 1; }
    snprintf(path, 32, "s%d/%d", n % 5, n);
    if (n == made - 1 && live[n] == 1) { writeTo(path, O_WRONLY | O_CREAT | O_EXCL, 0644, 500 + next(9000)); live[n] = 2; }
    else if (!live[n]) continue;
    else if (next(3) == 0) { did("unlink", path, "", unlink(path)); live[n] = 0; }
    else if (next(2)) writeTo(path, O_WRONLY | O_APPEND, 0, next(3000));
    else readFrom(path);
  }
  for (int i = 0; i < 5; i++) { snprintf(path, 32, "s%d", i); list(path); }
  for (int n = 0; n < made; n++) if (live[n]) { struct stat s; snprintf(path, 32, "s%d/%d", n % 5, n); if (!stat(path, &s)) bytes += s.st_size; if (unlink(path)) did("unlink", path, "", -1); }
  for (int i = 0; i < 5; i++) { snprintf(path, 32, "s%d", i); did("rmdir", path, "", rmdir(path)); }
  printf("%d files, %ld bytes left\\n", made, bytes);
}

int main(int argc, char **argv) {
  state = atoi(argv[1]) * 2654435761u + 1; int count = argc > 2 ? atoi(argv[2]) : 60;
  if (argc > 3) { postmark(count); return 0; }
  int log = open("log", O_RDWR | O_CREAT | O_APPEND, 0644);
  for (int i = 0; i < count; i++) {
    if (next(40) == 0) { // a child that does some of it, and whose exit code shows
      fflush(stdout); unsigned seed = next(1000000); pid_t p = fork();
      if (p == 0) { state = seed; for (int k = 0; k < 5; k++) one(); fflush(stdout); _exit(next(50)); }
      int status; waitpid(p, &status, 0); printf("child %d\\n", WEXITSTATUS(status));
    } else one();
    // Stays open, also in children, and is read through the same descriptor at the end.
    if (next(3) == 0) { char line[32]; int n = snprintf(line, 32, "after %d\\n", i); if (write(log, line, n) != n) printf("log %s\\n", strerror(errno)); }
    if (next(10) == 0) fflush(stdout);
  }
  list("."); list("d0"); list("d1"); list("d2");
  long n = pread(log, data, sizeof data, 0); printf("log %ld %08x\\n", n, sum((unsigned char *)data, n > 0 ? n : 0));
  return next(7);
}
`;

/** A program over the tree that tree.ts makes. `script` is run by sh in the tree. */
export interface EquivalenceProgram {
  readonly name: string;
  readonly script: (seed: number) => string;
  /** Commands that must exist. */
  readonly needs: readonly string[];
  /** It looks at times, so that another client that changes them shows. */
  readonly timesMatter: boolean;
  /**
   * Lines instead of a script, each of which looks at any one file once: another client changes a file at a random moment, and
   * the outcome must be that of the change between two of the lines.
   */
  readonly lines?: (seed: number) => readonly string[];
}

/** Lines over the files that `changeOnce` changes. */
function racing(seed: number): string[] {
  const rnd = random(seed ^ 0x11e5);
  const lines: string[] = ['mkdir -p out'];
  for (let i = 0; i < 7; i++) {
    const name = `n${Math.floor(rnd() * 3)}.txt`;
    const path = `doc/a/${name}`;
    const choices = [
      `cat ${path} | tail -2`,
      `grep -c return ${path}`,
      `cat ${path} > out/${i}`,
      'ls doc/a',
      `if [ -e ${path} ]; then echo ${i} there; else echo ${i} gone; fi`,
      `wc -c < ${path}`,
      `read a b < ${path}; echo $b $a`,
      `sort -r < ${path} | head -1 > out/sorted; cat out/sorted`,
      `x=$(cat ${path}); echo \${#x} > out/length; cat out/length`,
    ];
    lines.push(choices[Math.floor(rnd() * choices.length)]!);
  }
  return lines;
}

export const PROGRAMS: readonly EquivalenceProgram[] = [
  {
    name: 'find',
    needs: ['find'],
    timesMatter: false,
    script: () => 'find . -name "*.c" -size -40k | sort; find . -type d | wc -l',
  },
  {
    name: 'grep',
    needs: ['grep'],
    timesMatter: false,
    script: () => 'grep -rn "return" src | sort | head -40; grep -c x nosuch; echo $?',
  },
  { name: 'tar', needs: ['tar'], timesMatter: true, script: () => 'tar cf - src doc | tar tf - | sort | head -60' },
  {
    name: 'sh',
    needs: ['sh'],
    timesMatter: false,
    script: (seed) => `
i=0; n=0
while [ $i -lt 12 ]; do if [ -e src/m$i.c ]; then n=$((n+1)); fi; i=$((i+1)); done; echo found $n
mkdir -p out/$((${seed} % 3)); for f in src/m1.c src/m2.c src/none.c; do cat $f > out/copy 2>>out/err && wc -c < out/copy; done
x=$(cat src/m3.c 2>/dev/null | tr a-z A-Z | head -2); echo "$x"; (exit 4); echo st $?
echo line1 > out/log; echo line2 >> out/log; cat out/log; mv out/log out/log2; rm -f out/copy; ls out out/*; test -f out/log2 && exit 3
exit 5`,
  },
  {
    name: 'untar',
    needs: ['tar', 'cp'],
    timesMatter: true,
    script: () =>
      'tar cf t.tar src && mkdir u && tar xf t.tar -C u && cp -r u v && diff -r u/src v/src && find u v -type f | sort | wc -l; rm -r u t.tar; ls',
  },
  {
    name: 'remove',
    needs: ['rm'],
    timesMatter: false,
    script: (seed) =>
      `mkdir d d/e; for i in 1 2 3 4 5 6 7; do echo $i > d/$i; done; ln d/3 d/e/3; cp -r d f; rm -r d; ls -R f; rm -r f doc; ls; exit ${seed % 7}`,
  },
  {
    name: 'make',
    needs: ['make', 'cc'],
    timesMatter: true,
    script: () =>
      'make -s -C src 2>&1; ls src | sort | head -40; ./src/prog; echo $?; touch src/m1.c; make -s -C src; make -q -C src; echo $?; make -s -C src clean; ls src | wc -l',
  },
  {
    name: 'git',
    needs: ['git'],
    timesMatter: false,
    script: () => `
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git -c init.defaultBranch=m init -q r && cd r && cp ../src/*.c . && git add . && git commit -q -m one && git log --oneline
echo more >> m1.c; git status --short; git commit -qam two; git checkout -q HEAD~1; git status --short; git log --oneline | wc -l; git fsck 2>&1
cd ..; git clone -q r r2; ls r2 | sort; rm -rf r2 r/.git/index r/.git/logs`,
  },
  { name: 'fileops', needs: ['cc'], timesMatter: false, script: (seed) => `mkdir -p w; cd w; "$FILEOPS" ${seed} 80` },
  {
    name: 'fileops-long',
    needs: ['cc'],
    timesMatter: false,
    script: (seed) => `mkdir -p w; cd w; "$FILEOPS" ${seed} 300 | cat`,
  },
  {
    name: 'postmark',
    needs: ['cc'],
    timesMatter: false,
    script: (seed) => `mkdir -p p; cd p; "$FILEOPS" ${seed} 60 postmark`,
  },
  {
    name: 'local',
    needs: ['cc', 'tar', 'sort'],
    timesMatter: false,
    script: (seed) => `
M=$PWD; cd "$LOCAL"; mkdir w; cd w
for i in 1 2 3; do
  "$FILEOPS" $((${seed} + i)) 40; cat "$M"/src/m$i.c 2>&1 | wc -c >> sums; cat "$M"/doc/a/n$((i - 1)).txt > c$i 2>/dev/null; mv c$i k$i; cat sums
  sed s/return/RETURN/ < "$M"/src/m$i.c > made$i; sort -r made$i k$i > "$M"/sorted$i; grep -c x made$i > sums.$i; mv sums.$i sums2
done
tar cf ../t.tar . && tar tf ../t.tar | sort; rm ../t.tar; cp sums2 "$M"/sums2; cc -o ../prog "$M"/src/m1.c 2>&1 | wc -l; exit ${seed % 5}`,
  },
  {
    name: 'race',
    needs: ['sh'],
    timesMatter: true,
    script: (seed) => racing(seed).join('\n'),
    lines: racing,
  },
];
