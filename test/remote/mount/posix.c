/* System calls on a mount, run in an empty directory: prints what failed and ends with 1, or "ok". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static int failed;
#define CHECK(c) do { if (!(c)) { printf("line %d: %s (%s)\n", __LINE__, #c, strerror(errno)); failed = 1; } } while (0)
#define FAILS(call, code) do { errno = 0; CHECK((call) == -1 && errno == (code)); } while (0)

int main(void) {
  struct stat s;
  char b[64];
  /* mmap: shared writes reach the file, private ones do not */
  int fd = open("map", O_RDWR | O_CREAT | O_EXCL, 0640);
  CHECK(fd >= 0);
  FAILS(open("map", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
  CHECK(ftruncate(fd, 300000) == 0);
  char *m = mmap(0, 300000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(m != MAP_FAILED);
  memcpy(m + 123456, "shared", 6);
  m[299999] = 'z';
  CHECK(msync(m, 300000, MS_SYNC) == 0);
  char *p = mmap(0, 300000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  memcpy(p, "private", 7);
  munmap(m, 300000);
  munmap(p, 300000);
  CHECK(close(fd) == 0);
  fd = open("map", O_RDONLY);
  CHECK(pread(fd, b, 6, 123456) == 6 && memcmp(b, "shared", 6) == 0);
  CHECK(pread(fd, b, 10, 299999) == 1 && b[0] == 'z');
  CHECK(pread(fd, b, 7, 0) == 7 && b[0] == 0);
  CHECK(pread(fd, b, 7, 300000) == 0);
  FAILS(write(fd, b, 1), EBADF);
  CHECK(fstat(fd, &s) == 0 && s.st_size == 300000 && (s.st_mode & 07777) == 0640);
  close(fd);
  /* holes, append, sparse reads */
  fd = open("hole", O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(pwrite(fd, "end", 3, 5000000) == 3);
  CHECK(pread(fd, b, 4, 4999998) == 4 && b[0] == 0 && b[2] == 'e');
  CHECK(lseek(fd, 0, SEEK_END) == 5000003);
  int ap = open("hole", O_WRONLY | O_APPEND);
  CHECK(write(ap, "more", 4) == 4);
  CHECK(fstat(fd, &s) == 0 && s.st_size == 5000007);
  close(ap);
  CHECK(ftruncate(fd, 5) == 0 && pread(fd, b, 10, 0) == 5);
  CHECK(fsync(fd) == 0 && fdatasync(fd) == 0);
  close(fd);
  /* removed while open, overwritten while open */
  fd = open("gone", O_RDWR | O_CREAT, 0600);
  CHECK(write(fd, "still", 5) == 5);
  CHECK(unlink("gone") == 0);
  FAILS(stat("gone", &s), ENOENT);
  CHECK(fstat(fd, &s) == 0 && s.st_nlink == 0 && s.st_size == 5);
  CHECK(pread(fd, b, 5, 0) == 5 && memcmp(b, "still", 5) == 0);
  close(fd);
  fd = open("over", O_RDWR | O_CREAT, 0600);
  CHECK(write(fd, "old", 3) == 3);
  int fd2 = open("new", O_RDWR | O_CREAT, 0600);
  CHECK(write(fd2, "new", 3) == 3);
  CHECK(rename("new", "over") == 0);
  CHECK(pread(fd, b, 3, 0) == 3 && memcmp(b, "old", 3) == 0);
  close(fd);
  close(fd2);
  fd = open("over", O_RDONLY);
  CHECK(read(fd, b, 3) == 3 && memcmp(b, "new", 3) == 0);
  close(fd);
  CHECK(unlink("over") == 0);
  /* a directory is empty as soon as what was open in it is closed */
  CHECK(mkdir("d", 0755) == 0);
  fd = open("d/f", O_RDWR | O_CREAT, 0600);
  CHECK(unlink("d/f") == 0);
  close(fd);
  CHECK(rmdir("d") == 0);
  /* links */
  CHECK(symlink("map", "sym") == 0 && readlink("sym", b, 64) == 3);
  CHECK(link("map", "hard") == 0 && stat("hard", &s) == 0 && s.st_nlink == 2);
  ino_t ino = s.st_ino;
  CHECK(stat("sym", &s) == 0 && s.st_ino == ino);
  CHECK(unlink("hard") == 0 && stat("map", &s) == 0 && s.st_nlink == 1);
  FAILS(link("d-none", "x"), ENOENT);
  /* names and directories */
  CHECK(mkdir("d", 0700) == 0);
  FAILS(mkdir("d", 0700), EEXIST);
  FAILS(rmdir("map"), ENOTDIR);
  FAILS(unlink("d"), EISDIR);
  CHECK(rename("map", "d/map") == 0);
  FAILS(rmdir("d"), ENOTEMPTY);
  FAILS(open("d/map/x", O_RDONLY), ENOTDIR);
  FAILS(rename("d", "d/e"), EINVAL);
  FAILS(syscall(SYS_renameat2, AT_FDCWD, "d/map", AT_FDCWD, "none", 1), EINVAL);
  char name[300];
  memset(name, 'n', sizeof name);
  name[256] = 0;
  FAILS(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
  name[255] = 0;
  fd = open(name, O_CREAT | O_RDWR, 0600);
  CHECK(fd >= 0 && close(fd) == 0 && unlink(name) == 0);
  fd = open("\xff\xfe bad\n", O_CREAT | O_RDWR, 0600);
  CHECK(fd >= 0 && close(fd) == 0);
  DIR *d = opendir(".");
  int seen = 0;
  for (struct dirent *e; (e = readdir(d));) if (strcmp(e->d_name, "\xff\xfe bad\n") == 0) seen++;
  CHECK(seen == 1);
  rewinddir(d);
  CHECK(unlink("\xff\xfe bad\n") == 0);
  closedir(d);
  /* attributes */
  CHECK(chmod("d/map", 04711) == 0 && stat("d/map", &s) == 0 && (s.st_mode & 07777) == 04711);
  struct timespec times[2] = {{1000000000, 5}, {1234567890, 123456789}};
  CHECK(utimensat(AT_FDCWD, "d/map", times, 0) == 0 && stat("d/map", &s) == 0);
  CHECK(s.st_mtim.tv_sec == 1234567890 && s.st_mtim.tv_nsec == 123456789 && s.st_atim.tv_sec == 1000000000);
  CHECK(truncate("d/map", 10) == 0 && stat("d/map", &s) == 0 && s.st_size == 10);
  /* written, then times set, then closed: the times stay */
  fd = open("t", O_RDWR | O_CREAT, 0600);
  CHECK(write(fd, "data", 4) == 4 && futimens(fd, times) == 0 && close(fd) == 0);
  CHECK(stat("t", &s) == 0 && s.st_mtim.tv_sec == 1234567890 && s.st_size == 4);
  /* what NFSv3 does not have */
  fd = open("t", O_RDWR);
  FAILS(fallocate(fd, 0, 0, 100), EOPNOTSUPP);
  FAILS(setxattr("t", "user.x", "y", 1, 0), EOPNOTSUPP);
  FAILS(fgetxattr(fd, "user.x", b, 64), EOPNOTSUPP);
  int out = open("copy", O_RDWR | O_CREAT, 0600);
  CHECK(copy_file_range(fd, 0, out, 0, 4, 0) == 4 || errno == EOPNOTSUPP || errno == EXDEV);
  close(out);
  /* locks, between processes on this mount */
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  CHECK(fcntl(fd, F_SETLK, &l) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    int other = open("t", O_RDWR);
    _exit(fcntl(other, F_SETLK, &l) == -1 && (errno == EAGAIN || errno == EACCES) ? 0 : 1);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
  close(fd);
  /* special files */
  CHECK(mkfifo("fifo", 0600) == 0 && stat("fifo", &s) == 0 && S_ISFIFO(s.st_mode));
  struct statvfs v;
  CHECK(statvfs(".", &v) == 0 && v.f_blocks > 0 && v.f_namemax >= 255);
  CHECK(access("t", R_OK | W_OK) == 0);
  for (const char *each = "t\0copy\0fifo\0sym\0hole\0d/map\0"; *each; each += strlen(each) + 1) CHECK(unlink(each) == 0);
  CHECK(rmdir("d") == 0);
  if (!failed) printf("ok\n");
  return failed;
}
