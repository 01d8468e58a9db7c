/* Tries one thing that a step must not be able to do. Says ESCAPED if it could, else what it was told. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <dirent.h>
#include <stddef.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int answer(const char *what, long result)
{
    if (result >= 0)
        printf("ESCA" "PED: %s\n", what);
    else
        printf("refused: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    return result >= 0;
}

/* The old interface and each of the new one. */
static int do_mount(void)
{
    int got = answer("mount", mount("none", "/tmp", "tmpfs", 0, ""));
    got |= answer("bind", mount("/", "/tmp", "", MS_BIND, ""));
    got |= answer("remount of /proc/sys", mount("", "/proc/sys", "", MS_REMOUNT | MS_BIND, ""));
    got |= answer("umount of what is masked", umount2("/proc/kcore", MNT_DETACH));
    got |= answer("umount of /sys", umount2("/sys", MNT_DETACH));
    got |= answer("fsopen", syscall(SYS_fsopen, "proc", 0));
    got |= answer("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    got |= answer("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/tmp", 0));
    char attributes[32] = {0};
    got |= answer("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, attributes, 32));
    got |= answer("pivot_root", syscall(SYS_pivot_root, ".", "."));
    return got;
}

static int do_namespaces(void)
{
    static const int kinds[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS,
                                CLONE_NEWCGROUP};
    int got = 0;
    for (size_t at = 0; at < sizeof kinds / sizeof *kinds; at++) {
        got |= answer("unshare", unshare(kinds[at]));
        long pid = syscall(SYS_clone, kinds[at] | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            _exit(0);
        got |= answer("clone", pid);
    }
    static const char *names[] = {"mnt", "pid", "user", "net", "ipc", "uts", "cgroup"};
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/1/ns/%s", names[at]);
        int fd = open(path, O_RDONLY);
        got |= answer(path, fd);
        got |= answer("setns", setns(fd < 0 ? 0 : fd, 0));
    }
    return got;
}

/* Pid 1 holds the socket to the builder; pid 2 up to some hundreds could be the host's. */
static int do_processes(void)
{
    int got = answer("ptrace of pid 1", ptrace(PTRACE_SEIZE, 1, 0, 0));
    char buffer[8];
    struct iovec local = {buffer, sizeof buffer}, remote = {(void *)0x400000, sizeof buffer};
    got |= answer("memory of pid 1", process_vm_readv(1, &local, 1, &remote, 1, 0));
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    got |= answer("descriptor of pid 1", syscall(SYS_pidfd_getfd, pidfd, 3, 0));
    static const char *paths[] = {"/proc/1/mem", "/proc/1/environ", "/proc/1/exe", "/proc/1/root/", "/proc/1/cwd/",
                                  "/proc/1/maps", "/proc/1/fd/0"};
    for (size_t at = 0; at < sizeof paths / sizeof *paths; at++)
        got |= answer(paths[at], open(paths[at], O_RDONLY));
    got |= answer("kernel stack of pid 1", read(open("/proc/1/stack", O_RDONLY), buffer, sizeof buffer));
    DIR *files = opendir("/proc/1/map_files");
    struct dirent *entry;
    while (files && (entry = readdir(files)))
        if (*entry->d_name != '.') {
            char path[300], target[300];
            snprintf(path, sizeof path, "/proc/1/map_files/%s", entry->d_name);
            got |= answer(path, readlink(path, target, sizeof target));
        }
    kill(1, SIGKILL);
    kill(1, SIGTERM);
    errno = ESRCH;
    return got | answer("an end of pid 1", kill(1, 0) == 0 || errno == EPERM ? -1 : 0);
}

static int do_kernel(void)
{
    int got = 0;
    char attributes[128] = {0};
    got |= answer("bpf", syscall(SYS_bpf, 0, attributes, sizeof attributes));
    got |= answer("perf_event_open", syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
    got |= answer("io_uring_setup", syscall(SYS_io_uring_setup, 1, attributes));
    got |= answer("userfaultfd", syscall(SYS_userfaultfd, 0));
    got |= answer("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    got |= answer("init_module", syscall(SYS_init_module, attributes, sizeof attributes, ""));
    got |= answer("finit_module", syscall(SYS_finit_module, 0, "", 0));
    got |= answer("delete_module", syscall(SYS_delete_module, "no-such-module", O_NONBLOCK));
    got |= answer("swapon", syscall(SYS_swapon, "/tmp/none", 0));
    got |= answer("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0)); /* Ctrl-Alt-Del off, at most */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    got |= answer("clock_settime", clock_settime(CLOCK_REALTIME, &now));
    char name[64] = "";
    gethostname(name, sizeof name);
    got |= answer("sethostname", sethostname(name, strlen(name)));
    got |= answer("acct", syscall(SYS_acct, 0));
    got |= answer("quotactl", syscall(SYS_quotactl, 0x800001 << 8, "/dev/none", 0, 0));
    got |= answer("syslog", syscall(SYS_syslog, 3, attributes, sizeof attributes));
    got |= answer("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
#ifdef SYS_iopl
    got |= answer("iopl", syscall(SYS_iopl, 3));
    got |= answer("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
#endif
    got |= answer("vhangup", syscall(SYS_vhangup));
    got |= answer("setpriority", setpriority(PRIO_PROCESS, 0, -20));
    got |= answer("setrlimit", setrlimit(RLIMIT_CORE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}));
    return got;
}

/* The same keyring of root's uid is the host's, where it can be reached. */
static int do_keyring(void)
{
    int got = answer("keyctl of the user's keyring", syscall(SYS_keyctl, 0, -4, 1));
    got |= answer("keyctl of the session's", syscall(SYS_keyctl, 0, -3, 0));
    got |= answer("add_key", syscall(SYS_add_key, "user", "escape", "x", 1, -4));
    got |= answer("request_key", syscall(SYS_request_key, "user", "escape", 0, -4));
    return got;
}

/* "Shocker": a handle needs no path. Inode 2 is the root of an ext4, 128 of an xfs, 256 of a btrfs. */
static int do_handles(void)
{
    int got = 0;
    int root = open("/", O_RDONLY);
    for (unsigned inode = 1; inode <= 256; inode++) {
        struct { struct file_handle handle; unsigned bytes[2]; } known = {{8, 1}, {inode, 0}};
        int fd = open_by_handle_at(root, &known.handle, O_RDONLY);
        got |= fd >= 0;
    }
    return answer("open_by_handle_at", got ? 0 : -1);
}

/* A node can be made; that it cannot be opened is what matters. */
static int do_devices(void)
{
    static const struct { const char *name; mode_t kind; int major, minor; } nodes[] = {
        {"mem", S_IFCHR, 1, 1}, {"kmem", S_IFCHR, 1, 2}, {"port", S_IFCHR, 1, 4}, {"kmsg", S_IFCHR, 1, 11},
        {"sda", S_IFBLK, 8, 0}, {"vda", S_IFBLK, 254, 0}, {"vdb", S_IFBLK, 253, 0}, {"nvme", S_IFBLK, 259, 0},
        {"loop0", S_IFBLK, 7, 0}, {"loop-control", S_IFCHR, 10, 237}, {"fuse", S_IFCHR, 10, 229},
        {"kvm", S_IFCHR, 10, 232}, {"tun", S_IFCHR, 10, 200}, {"tty1", S_IFCHR, 4, 1}, {"console", S_IFCHR, 5, 1},
        {"uinput", S_IFCHR, 10, 223}, {"mapper", S_IFCHR, 10, 236}, {"cpu", S_IFCHR, 203, 0}, {"hpet", S_IFCHR, 10, 228},
    };
    static const char *places[] = {"/tmp", "/dev/shm", "/dev", "/run", "/"};
    int got = 0;
    for (size_t place = 0; place < sizeof places / sizeof *places; place++)
        for (size_t at = 0; at < sizeof nodes / sizeof *nodes; at++) {
            char path[64];
            snprintf(path, sizeof path, "%s/%s", places[place], nodes[at].name);
            mknod(path, nodes[at].kind | 0600, makedev(nodes[at].major, nodes[at].minor));
            int fd = open(path, O_RDONLY | O_NONBLOCK);
            /* With a single id a file stands for it. No device has an attribute of the kind user (xattr(7)). */
            if (fd >= 0 && fsetxattr(fd, "user.probe", "x", 1, 0) == 0) {
                close(fd);
                errno = ENODEV;
                fd = -1;
            }
            got |= answer(path, fd);
            unlink(path);
        }
    return got;
}

/* Each is written what it says already: if that works, it is an escape, and does no harm. */
static int do_knobs(void)
{
    static const char *knobs[] = {
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
        "/proc/sys/kernel/poweroff_cmd", "/proc/sys/kernel/panic", "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/binfmt_misc/register", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/kernel/mm/ksm/run",
        "/sys/power/state", "/sys/kernel/profiling", "/sys/module/kernel/parameters/panic",
        "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow", "/sys/kernel/debug/x",
        "/sys/firmware/efi/vars/x", "/proc/kcore", "/proc/kmsg", "/proc/timer_list", "/proc/keys", "/dev/mem",
    };
    int got = 0;
    for (size_t at = 0; at < sizeof knobs / sizeof *knobs; at++) {
        struct stat masked, null;
        int fd = open(knobs[at], O_WRONLY);
        if (fd >= 0 && stat("/dev/null", &null) == 0 && fstat(fd, &masked) == 0 && masked.st_rdev == null.st_rdev) {
            close(fd);
            errno = ENXIO; /* covered by the step's own /dev/null */
            fd = -1;
        }
        got |= answer(knobs[at], fd);
    }
    got |= answer("a new control group", mkdir("/sys/fs/cgroup/escape", 0755));
    got |= answer("a new control group of v1", mkdir("/sys/fs/cgroup/memory/escape", 0755));
    return got;
}

/* The classic way out of a chroot. argv[2] is what must not be there. */
static int do_chroot(const char *canary)
{
    mkdir("/tmp/jail", 0755);
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    chroot("/tmp/jail");
    fchdir(fd);
    for (int depth = 0; depth < 64; depth++)
        chdir("..");
    chroot(".");
    return answer("the host's root", open(canary, O_RDONLY));
}

static int do_descriptors(void)
{
    int got = 0;
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            got |= answer("an inherited descriptor", fd);
    for (int fd = 0; fd < 3; fd++) {
        char byte = '\n';
        struct stat status;
        if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode))
            got |= answer("a directory as a standard stream", fd);
        got |= answer("TIOCSTI", ioctl(fd, TIOCSTI, &byte));
        got |= answer("TIOCLINUX", ioctl(fd, 0x541C, "\x03"));
        got |= answer("TIOCSCTTY", ioctl(fd, TIOCSCTTY, 1));
    }
    got |= answer("/dev/tty", open("/dev/tty", O_RDWR));
    answer("no descriptor", -1);
    return got;
}

/* Names of abstract sockets belong to the network's namespace. */
static int do_abstract(const char *name)
{
    struct sockaddr_un address = {AF_UNIX, {0}};
    memcpy(address.sun_path + 1, name, strlen(name));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return answer("an abstract socket",
                  connect(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
}

/* The calls of 32-bit programs have numbers of their own. */
static int do_foreign(void)
{
    int got = 0;
#ifdef __x86_64__
    /* x32's unshare, mount, keyctl; and i386's mount, by its own way into the kernel. */
    got |= answer("unshare of x32", syscall(0x40000000 + 272, CLONE_NEWUSER));
    got |= answer("mount of x32", syscall(0x40000000 + 165, "none", "/tmp", "tmpfs", 0, 0));
    char *low = mmap((void *)0x10000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (low != MAP_FAILED) {
        strcpy(low, "tmpfs");
        strcpy(low + 16, "/tmp");
        pid_t pid = fork();
        if (pid == 0) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(21L), "b"((long)low), "c"((long)(low + 16)),
                             "d"((long)low), "S"(0L), "D"(0L) : "memory", "r8", "r9", "r10", "r11");
            _exit(result == 0 ? 0 : 1);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        errno = EPERM;
        got |= answer("mount of i386", WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1);
    }
#endif
    answer("calls of another kind", -1);
    return got;
}

/* Set-user-ID root, run by somebody else: who one is then, and what one may do to the host. */
static int do_setuid(void)
{
    printf("uid %d\n", geteuid());
    if (setuid(0) == 0 && geteuid() == 0)
        printf("root of the step\n");
    fflush(stdout);
    return answer("mount", mount("none", "/tmp", "tmpfs", 0, ""));
}

/* What runs on when the command has ended. */
static int do_linger(void)
{
    for (int each = 0; each < 5; each++)
        if (fork() == 0) {
            setsid();
            signal(SIGTERM, SIG_IGN);
            signal(SIGHUP, SIG_IGN);
            signal(SIGINT, SIG_IGN);
            prctl(PR_SET_NAME, "escaped-daemon");
            if (fork() == 0)
                for (;;)
                    pause();
            for (;;)
                pause();
        }
    return answer("nothing", -1);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "setuid", *name = argc > 2 ? argv[2] : "";
    if (!strcmp(what, "mount")) do_mount();
    else if (!strcmp(what, "namespaces")) do_namespaces();
    else if (!strcmp(what, "processes")) do_processes();
    else if (!strcmp(what, "kernel")) do_kernel();
    else if (!strcmp(what, "keyring")) do_keyring();
    else if (!strcmp(what, "handles")) do_handles();
    else if (!strcmp(what, "devices")) do_devices();
    else if (!strcmp(what, "knobs")) do_knobs();
    else if (!strcmp(what, "chroot")) do_chroot(name);
    else if (!strcmp(what, "descriptors")) do_descriptors();
    else if (!strcmp(what, "abstract")) do_abstract(name);
    else if (!strcmp(what, "foreign")) do_foreign();
    else if (!strcmp(what, "setuid")) do_setuid();
    else if (!strcmp(what, "linger")) do_linger();
    else return 2;
    return 0;
}
