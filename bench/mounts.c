/*
 * mounts LAYER DIRECTORY STEPS: the least that a step of a build takes.
 *
 * For each step: a child in a mount namespace of its own mounts an overlay of LAYER and of a new upper directory
 * below DIRECTORY, changes its root to it, and executes /empty, which is in LAYER. The mounts go with the children.
 */
#define _GNU_SOURCE
#include <err.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void make(char *path, size_t size, const char *directory, int step, const char *name) {
    if (snprintf(path, size, "%s/%d%s", directory, step, name) >= (int)size)
        errx(1, "the path of %s is too long", directory);
    if (mkdir(path, 0755) < 0)
        err(1, "mkdir %s", path);
}

static void run(const char *layer, const char *directory, int step) {
    char top[512], upper[512], work[512], merged[512], options[2048];
    char *words[] = {"/empty", NULL};

    make(top, sizeof top, directory, step, "");
    make(upper, sizeof upper, directory, step, "/upper");
    make(work, sizeof work, directory, step, "/work");
    make(merged, sizeof merged, directory, step, "/merged");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", layer, upper, work);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        err(1, "a mount namespace");
    if (mount("overlay", merged, "overlay", 0, options) < 0)
        err(1, "mount an overlay on %s", merged);
    if (chroot(merged) < 0 || chdir("/") < 0)
        err(1, "chroot %s", merged);
    execv(words[0], words);
    err(1, "execute /empty");
}

int main(int count, char **words) {
    if (count != 4)
        errx(2, "usage: mounts LAYER DIRECTORY STEPS");
    for (int step = 0; step < atoi(words[3]); step++) {
        int status;
        pid_t child = fork();
        if (child < 0)
            err(1, "fork");
        if (child == 0)
            run(words[1], words[2], step);
        if (waitpid(child, &status, 0) < 0 || status != 0)
            errx(1, "step %d failed", step);
    }
    return 0;
}
