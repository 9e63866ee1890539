/* What C programs do: each part prints its name when it has worked. */
#define _GNU_SOURCE
#include <aio.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                            \
  do {                                                              \
    if (!(condition)) {                                             \
      fprintf(stderr, "line %d: %s: %m\n", __LINE__, #condition);   \
      exit(1);                                                      \
    }                                                               \
  } while (0)

static void worked(const char *name) { puts(name); fflush(stdout); }

static volatile sig_atomic_t got;
static void handler(int number) { got = number; }

static int shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *count(void *unused) {
  for (int i = 0; i < 1000; i++) {
    pthread_mutex_lock(&mutex);
    shared++;
    pthread_mutex_unlock(&mutex);
  }
  return unused;
}

static void threads(void) {
  pthread_t all[8];
  for (int i = 0; i < 8; i++) CHECK(!pthread_create(&all[i], NULL, count, NULL));
  for (int i = 0; i < 8; i++) CHECK(!pthread_join(all[i], NULL));
  CHECK(shared == 8000);
  worked("threads");
}

static void processes(void) {
  int ends[2], status;
  char byte;
  CHECK(!pipe(ends));
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    execl("/bin/sh", "sh", "-c", "printf 7", (char *)0);
  }
  CHECK(read(ends[0], &byte, 1) == 1 && byte == '7');
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(system("exit 3") == 3 << 8);
  char *argv[] = {"true", NULL};
  CHECK(!posix_spawnp(&pid, "true", NULL, NULL, argv, NULL));
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  pid = vfork();
  if (pid == 0) _exit(5);
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
  cpu_set_t set;
  CHECK(!sched_getaffinity(0, sizeof set, &set) && CPU_COUNT(&set) > 0);
  int niceness = nice(0);  // the tests may run under nice(1)
  CHECK(nice(1) == niceness + 1);
  worked("processes");
}

static void signals(void) {
  struct sigaction action = {.sa_handler = handler};
  CHECK(!sigaction(SIGUSR1, &action, NULL) && !raise(SIGUSR1) && got == SIGUSR1);
  CHECK(!sigaction(SIGALRM, &action, NULL));
  alarm(1);
  pause();
  CHECK(got == SIGALRM);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
  int fd = signalfd(-1, &set, 0);
  struct signalfd_siginfo info;
  CHECK(fd >= 0 && !kill(getpid(), SIGUSR2));
  CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2);
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  CHECK(!sigaltstack(&stack, NULL));
  worked("signals");
}

static void memory(void) {
  char *map = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(map != MAP_FAILED && !mprotect(map, 4096, PROT_READ) && !munmap(map, 1 << 20));
  int fd = open("mapped", O_CREAT | O_RDWR, 0644);
  CHECK(fd >= 0 && !ftruncate(fd, 4096));
  map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  map[0] = 'x';
  CHECK(!msync(map, 4096, MS_SYNC));
  char byte;
  CHECK(pread(fd, &byte, 1, 0) == 1 && byte == 'x');
  CHECK(memfd_create("m", MFD_CLOEXEC) >= 0);
  fd = shm_open("/shared", O_CREAT | O_RDWR, 0600);
  CHECK(fd >= 0 && !ftruncate(fd, 4096) && !shm_unlink("/shared"));
  CHECK(!mlock(&byte, 1));
  worked("memory");
}

static void locks(void) {
  int fd = open("lock", O_CREAT | O_RDWR, 0644);
  struct flock lock = {.l_type = F_WRLCK};
  CHECK(fd >= 0 && !fcntl(fd, F_SETLK, &lock) && !flock(fd, LOCK_EX));
  if (fork() == 0) exit(fcntl(fd, F_SETLK, &lock) == -1 && errno == EAGAIN ? 0 : 1);
  int status;
  CHECK(wait(&status) > 0 && status == 0);
  struct flock open_file = {.l_type = F_UNLCK};
  CHECK(!fcntl(fd, F_SETLK, &open_file));
  worked("locks");
}

static void ipc(void) {
  int id = shmget(IPC_PRIVATE, 4096, 0600);
  char *at = shmat(id, NULL, 0);
  CHECK(at != (void *)-1);
  at[0] = 1;
  CHECK(!shmdt(at) && !shmctl(id, IPC_RMID, NULL));
  id = semget(IPC_PRIVATE, 1, 0600);
  struct sembuf up = {.sem_op = 1};
  CHECK(!semop(id, &up, 1) && !semctl(id, 0, IPC_RMID));
  sem_t *named = sem_open("/semaphore", O_CREAT, 0600, 1);
  CHECK(named != SEM_FAILED && !sem_wait(named) && !sem_unlink("/semaphore"));
  worked("ipc");
}

static void waiting(void) {
  int epoll = epoll_create1(0), event = eventfd(0, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
  struct epoll_event wanted = {.events = EPOLLIN, .data.fd = timer}, found;
  CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &wanted));
  struct itimerspec soon = {.it_value.tv_nsec = 1000000};
  CHECK(!timerfd_settime(timer, 0, &soon, NULL));
  CHECK(epoll_wait(epoll, &found, 1, 5000) == 1 && found.data.fd == timer);
  struct pollfd polled = {.fd = event, .events = POLLIN};
  CHECK(eventfd_write(event, 1) == 0 && poll(&polled, 1, 5000) == 1);
  int watch = inotify_init1(0);
  CHECK(inotify_add_watch(watch, ".", IN_CREATE) >= 0 && open("seen", O_CREAT, 0644) >= 0);
  polled.fd = watch;
  CHECK(poll(&polled, 1, 5000) == 1);
  timer_t posix;
  struct sigevent none = {.sigev_notify = SIGEV_NONE};
  CHECK(!timer_create(CLOCK_REALTIME, &none, &posix) && !timer_delete(posix));
  struct timespec now, little = {.tv_nsec = 1000};
  CHECK(!clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) && !nanosleep(&little, NULL));
  worked("waiting");
}

static void sockets(void) {
  int pair[2];
  CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  CHECK(!bind(server, (void *)&address, size) && !listen(server, 1));
  CHECK(!getsockname(server, (void *)&address, &size));
  CHECK(!connect(client, (void *)&address, size) && accept(server, NULL, NULL) >= 0);
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
  int local = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK(!bind(local, (void *)&name, sizeof name));
  int six = socket(AF_INET6, SOCK_DGRAM, 0);
  CHECK(six >= 0);
  struct addrinfo *found;
  CHECK(!getaddrinfo("localhost", "80", NULL, &found));
  worked("sockets");
}

static void files(void) {
  CHECK(!mkdir("d", 0755) && !rename("d", "e") && !symlink("e", "s") && !chmod("e", 0700));
  CHECK(!link("lock", "hard") && !mkfifo("fifo", 0600) && !truncate("lock", 10));
  int fd = open("big", O_CREAT | O_RDWR, 0644);
  CHECK(!posix_fallocate(fd, 0, 1 << 16) && !fsync(fd) && lseek(fd, 0, SEEK_END) == 1 << 16);
  struct aiocb work = {.aio_fildes = fd, .aio_buf = "x", .aio_nbytes = 1};
  CHECK(!aio_write(&work));
  while (aio_error(&work) == EINPROGRESS) usleep(1000);
  CHECK(aio_return(&work) == 1);
  FILE *temporary = tmpfile();
  CHECK(temporary && fputs("x", temporary) >= 0);
  worked("files");
}

int main(void) {
  threads();
  processes();
  signals();
  memory();
  locks();
  ipc();
  waiting();
  sockets();
  files();
}
